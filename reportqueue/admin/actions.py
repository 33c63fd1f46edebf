"""What the actions of both lists share: their addresses, one transaction for each row, a time budget, and messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.waiting import EACH_SECONDS
from reportqueue.errors import ReportQueueError

MAX_AT_ONCE = 1_000
"""Rows that one action takes: some seconds of work, well within a web server's time-out."""
BUDGET_SECONDS = 15.0
"""An action that takes longer, on a slow database, stops and reports how far it came."""


class ReasonedActionForm(ActionForm):
    """An action and an optional reason."""

    reason = forms.CharField(
        label=_("Reason:"),
        required=False,
        max_length=bounds.MAX_REASON_LENGTH,
        widget=forms.TextInput(attrs={"placeholder": _("optional")}),
    )


def reason_of(request: HttpRequest) -> str:
    """The reason that the person has written beside the button, as far as it can be stored."""
    return request.POST.get("reason", "").replace("\x00", "").strip()[: bounds.MAX_REASON_LENGTH]


class ActionsAdmin(ListAdmin):
    """Operations on rows, each as an action of the list and as a button on a row's page."""

    action_form = ReasonedActionForm
    operations: ClassVar[Collection[str]]
    """Their names, which are also the last part of their addresses."""

    def may(self, request: HttpRequest, name: str) -> bool:
        """Whether this person has the permission for the operation."""
        raise NotImplementedError

    def operate(self, request: HttpRequest, pks: Sequence[int], name: str) -> None:
        """Do the operation to each of these rows, and tell the person what was done and what was not."""
        raise NotImplementedError

    def get_urls(self) -> list[Any]:
        """Django's, and an address for each operation on one row."""
        view = self.admin_site.admin_view(self.operate_view)
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [path(f"<int:pk>/{name}/", view, {"name": name}, name=f"{prefix}_{name}") for name in self.operations]
        return [*own, *super().get_urls()]

    def operate_view(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """POST: do the operation to one row, and show the row again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request) or not self.may(request, name):
            raise PermissionDenied
        self.operate(request, [pk], name)
        return HttpResponseRedirect(self.address("change", pk))

    def for_each(self, request: HttpRequest, pks: Sequence[int], do: Callable[[int], None]) -> dict[str, list[int]]:
        """Call `do` with each key in a transaction of its own, within `BUDGET_SECONDS`; the refused keys by reason."""
        refused: dict[str, list[int]] = {}
        began = time.monotonic()
        for place, pk in enumerate(pks):
            if place and time.monotonic() - began > BUDGET_SECONDS:
                text = gettext(
                    "Stopped after %(time)s s: the other %(count)s were not tried; repeat the action for them."
                )
                self.say(request, text, len(pks) - place, messages.ERROR, time=round(time.monotonic() - began))
                break
            try:
                with self.bounded(EACH_SECONDS if len(pks) > 1 else None):
                    do(pk)
            except ReportQueueError as error:
                refused.setdefault(str(error), []).append(pk)
            except ValidationError as error:
                refused.setdefault(" ".join(error.messages), []).append(pk)
        return refused

    def say(self, request: HttpRequest, text: str, count: int, level: int = messages.SUCCESS, **values: Any) -> None:
        """Show a message whose `%(count)s` is the number with thousands separators."""
        self.message_user(request, text % {"count": f"{count:,}", **values}, level)


def why_refused(refused: Mapping[str, Sequence[int]]) -> str:
    """The reasons, each with the first of the rows that it refuses."""
    return " ".join(f"{reason} ({some(sorted(pks))})" for reason, pks in sorted(refused.items()))


def some(pks: Sequence[int], limit: int = 5) -> str:
    """The first of the keys, and how many more there are."""
    shown = ", ".join(f"#{pk}" for pk in pks[:limit])
    return f"{shown}, +{len(pks) - limit:,}" if len(pks) > limit else shown
