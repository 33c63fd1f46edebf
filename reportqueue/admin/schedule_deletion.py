"""The deletion of schedules: their finished reports are detached before, in batches, for some seconds at a time."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext

from reportqueue import bounds
from reportqueue.admin.changelists import ListAdmin
from reportqueue.errors import RowBusy
from reportqueue.models import ReportSchedule
from reportqueue.models.schedule import DETACH_SECONDS


class DeletingAdmin(ListAdmin):
    """For the admin of schedules. Once somebody has confirmed a deletion, and before its transaction begins."""

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """As Django's. If more finished reports are left than can be detached in time, it asks once more."""
        pk = bounds.as_id(object_id)
        if request.POST and pk is not None and (left := self._left(request, [pk])) is not None:
            return left
        return super().delete_view(request, object_id, extra_context)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """As Django's. A deletion of several is as that of one."""
        if "delete_selected" in request.POST.getlist("action") and request.POST.get("post"):
            pks = self.selected_pks(request, queryset, bounds.MAX_COUNT)
            if (left := self._left(request, pks)) is not None:
                return left
        return super().response_action(request, queryset, *args, **kwargs)

    def _left(self, request: HttpRequest, pks: list[int]) -> HttpResponse | None:
        """Detach finished reports; the answer if some are left. Without the permission to delete, none is detached."""
        if not self.has_delete_permission(request):
            return None
        try:
            if ReportSchedule.objects.filter(pk__in=pks).detach_history(seconds=DETACH_SECONDS):
                return None
        except RowBusy as error:
            return self._said(request, error)
        text = gettext(
            "Nothing is deleted yet: very many finished reports belong to it. Some were detached; delete it again to "
            "go on."
        )
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(request.get_full_path())
