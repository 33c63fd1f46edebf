"""The list of bulk actions. Each has its page among those of the queue."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, queue
from reportqueue.admin import formats, search
from reportqueue.admin.bulk import matched, words
from reportqueue.admin.changelists import ReadOnlyAdmin
from reportqueue.models import BulkAction


@admin.register(BulkAction)
class BulkActionAdmin(ReadOnlyAdmin):
    """The list, newest first. An action is started from the queue's list, and changed by the buttons of its own page.

    Only `prune_report_queue` deletes old ones.
    """

    list_display = ["number", "what", "filters_in_words", "status", "progress", "since", "requested_by", "reason"]
    list_display_links = None
    find = search.find_bulk_actions
    search_fields = ["reason"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A number, or a part of the reason or of the name of who wanted it.")
    ordering = ["-id"]
    sortable_by = ()
    actions = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Anybody who may see the queue."""
        return request.user.has_perm("reportqueue.view_reportqueue")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Its page."""
        pk = bounds.as_id(object_id)
        if request.method != "GET" or pk is None or not self.has_view_permission(request):
            return super().change_view(request, object_id, form_url, extra_context)
        return HttpResponseRedirect(self._page(pk))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """As Django's, with the titles of all failures by one query."""
        shown = super().get_changelist_instance(request)
        shown.result_list = list(shown.result_list)
        titles = queue.failure_titles({one.filters["failure"] for one in shown.result_list if "failure" in one.filters})
        for one in shown.result_list:
            one.failure_titles = titles
        return shown

    def _page(self, pk: int) -> str:
        return reverse("admin:reportqueue_reportqueue_bulk_action", args=[pk], current_app=self.admin_site.name)

    @admin.display(description=_("number"))
    def number(self, action: BulkAction) -> str:
        """A link to its page."""
        return format_html('<a href="{}">#{}</a>', self._page(action.pk), action.pk)

    @admin.display(description=_("what"))
    def what(self, action: BulkAction) -> str:
        """The verb, and what it undoes."""
        undone = gettext("undoes #%(number)s") % {"number": action.undo_of_id} if action.undo_of_id is not None else ""
        return formats.two_lines(action.get_verb_display(), undone)

    @admin.display(description=_("filter"))
    def filters_in_words(self, action: Any) -> str:
        """The filters."""
        return (
            "; ".join(f"{label}: {value}" for label, value in words(action.filters, action.failure_titles))
            or formats.EMPTY
        )

    @admin.display(description=_("done"))
    def progress(self, action: BulkAction) -> str:
        """How many rows of how many, and how many were refused."""
        refused = gettext("%(count)s refused") % {"count": f"{action.refused_count:,}"} if action.refused else ""
        done = gettext("%(done)s of %(matched)s") % {"done": f"{action.done:,}", "matched": matched(action)}
        return formats.two_lines(done, refused)

    @admin.display(description=_("since"))
    def since(self, action: BulkAction) -> str:
        """When it was started."""
        return formats.instant(action.created_at)
