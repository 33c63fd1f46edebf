"""Pages that wait for a locked row no longer than the API does, and show a message if they cannot have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.db import router
from django.db.models import JSONField, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext

from reportqueue import database, locks
from reportqueue.admin.actors import with_actor
from reportqueue.admin.consumers import with_pauses
from reportqueue.admin.instants import in_utc
from reportqueue.admin.json_input import JSONInput
from reportqueue.admin.viewer_zone import with_zone
from reportqueue.errors import RowBusy

if TYPE_CHECKING:
    AnyModelAdmin = admin.ModelAdmin[Any]
else:
    AnyModelAdmin = admin.ModelAdmin

NO_PAGES = ("_events", "_changed", "_modifiers", "_export")
"""The ends of the names of addresses that answer with something else than a page."""
EACH_SECONDS = 0.1
"""How long an action on several rows waits for each of them: the person waits for all."""


class PatientAdmin(AnyModelAdmin):
    """Everything that a person posts is a transaction with bounded waits, or one for each row."""

    formfield_overrides = {JSONField: {"form_class": JSONInput}}

    @property
    def urls(self) -> list[Any]:
        """Django's and each subclass's own.

        Every page says what is paused, acts in the name of its person, and shows instants in their zone.
        """
        patterns = self.get_urls()
        for pattern in patterns:
            if not str(pattern.name).endswith(NO_PAGES):
                pattern.callback = with_zone(with_pauses(pattern.callback, self.admin_site.has_permission))
            pattern.callback = with_actor(pattern.callback)
        return patterns

    @in_utc
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """As Django's, with inputs in UTC. If another transaction holds the row, a message says so instead."""
        return self._bounded(
            request, lambda: super(PatientAdmin, self).changeform_view(request, object_id, form_url, extra_context)
        )

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """As Django's, with the same message."""
        return self._bounded(request, lambda: super(PatientAdmin, self).delete_view(request, object_id, extra_context))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """As Django's, with the same message. Actions bound their transactions themselves."""
        try:
            return super().changelist_view(request, extra_context)
        except RowBusy as error:
            return self._said(request, error)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete all or none, as Django does."""
        with self.bounded():
            super().delete_queryset(request, queryset)

    @contextmanager
    def bounded(self, seconds: float | None = None) -> Iterator[None]:
        """`locks.bounded` in the database of this model, with the admin's log: no entry stays of what was not done.

        The log may be in another database. Its transaction is around the model's, and commits after it.
        """
        own, log = router.db_for_write(self.model), router.db_for_write(LogEntry)
        with ExitStack() as both:
            if log != own:
                both.enter_context(database.atomic(log))
            both.enter_context(locks.bounded(seconds, using=own))
            yield

    def _bounded(self, request: HttpRequest, view: Callable[[], HttpResponse]) -> HttpResponse:
        if request.method != "POST":
            return view()
        try:
            with self.bounded():
                return view()
        except RowBusy as error:
            return self._said(request, error)

    def _said(self, request: HttpRequest, error: RowBusy) -> HttpResponse:
        self.message_user(request, gettext("%(why)s Nothing was changed.") % {"why": error}, messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())
