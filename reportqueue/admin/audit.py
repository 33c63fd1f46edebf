"""The audit in the admin: a list that nobody can change, and the entries about one thing for the thing's own page."""

from __future__ import annotations

from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from reportqueue.admin import audit_table, formats, search
from reportqueue.admin.changelists import ReadOnlyAdmin
from reportqueue.admin.filters import DayFilter, MemberFilter
from reportqueue.models import AuditEntry
from reportqueue.models.audit import Kind, Via

PAGES = {
    Kind.ROW: "reportqueue",
    Kind.SCHEDULE: "reportschedule",
    Kind.REPORT: "report",
    Kind.CALENDAR: "blackoutcalendar",
    Kind.WEBHOOK: "webhooksource",
    Kind.SUBSCRIBER: "webhooksubscription",
    Kind.ALERT: "alertrule",
    Kind.DELIVERY: "eventdelivery",
    Kind.TOKEN: "apitoken",
}
"""The models of what has a page of its own."""


class KindFilter(MemberFilter):
    """What it was done to."""

    title = _("what")
    parameter_name = "kind"
    members = Kind


class ViaFilter(MemberFilter):
    """By which way it was done."""

    title = _("way")
    parameter_name = "via"
    members = Via


class AtFilter(DayFilter):
    """The day on which it was done."""

    title = _("day (UTC)")
    field = "at"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """The list, the newest first. Entries are made by what they tell of, and by nothing else.

    The database refuses a change, too. Only pruning deletes old ones.
    """

    list_display = ["done_at", "by", "via", "action", "what", "what_changed", "reason"]
    list_display_links = None
    list_filter = [KindFilter, ViaFilter, AtFilter]
    find = search.find_entries
    search_fields = ["by"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A user; or by:anna action:cancel row:7 schedule:5 report:3. All words must match.")
    ordering = ["-id"]
    sortable_by = ()

    @admin.display(description=_("at"))
    def done_at(self, entry: AuditEntry) -> str:
        """When it was done."""
        return formats.instant(entry.at)

    @admin.display(description=_("what"))
    def what(self, entry: AuditEntry) -> str:
        """What it was done to, with a link to its page."""
        label = entry.label or entry.object_id
        kind = entry.get_kind_display()
        model = PAGES.get(Kind(entry.kind))
        if model is None:
            return formats.two_lines(label, kind)
        try:
            page = f"admin:reportqueue_{model}_change"
            address = reverse(page, args=[entry.object_id], current_app=self.admin_site.name)
        except NoReverseMatch:
            return formats.two_lines(label, kind)
        return formats.two_lines(format_html('<a href="{}">{}</a>', address, label), kind)

    @admin.display(description=_("changes"))
    def what_changed(self, entry: AuditEntry) -> str:
        """Each changed field, with its value before and after."""
        return audit_table.changes(entry)
