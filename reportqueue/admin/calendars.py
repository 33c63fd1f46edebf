"""Blackout calendars in the admin: closed days and hours on one page, and the schedules that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue.admin import search
from reportqueue.admin.changelists import ListAdmin
from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportSchedule
from reportqueue.models.audit import Kind

if TYPE_CHECKING:
    AnyInline = admin.TabularInline[Any, Any]
else:
    AnyInline = admin.TabularInline

MAX_PARTS = 60
"""Rows of days, and of hours, in one form: a browser posts seven fields for each, and Django accepts 1,000 fields."""
NAMED = 5
"""How many calendars in use a refusal names."""


class PartInline(AnyInline):
    """Closed days or hours, in a table with a few empty lines: adding one needs no script."""

    extra = 3
    max_num = MAX_PARTS
    counted: ClassVar[str]
    """The name of the calendar's annotation that counts them."""

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """As Django's, and the limit is checked when the form is posted."""
        return super().get_formset(request, obj, validate_max=self._fit(obj), **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse if there are more rows than the form takes: code may have made them."""
        return self._fit(obj) and super().has_change_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for a change."""
        return self._fit(obj) and super().has_add_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for a change."""
        return self._fit(obj) and super().has_delete_permission(request, obj)

    def _fit(self, calendar: Any) -> bool:
        return int(getattr(calendar, self.counted, 0)) <= MAX_PARTS


class DaysInline(PartInline):
    """Closed days."""

    model = BlackoutDays
    counted = "days_count"


class HoursInline(PartInline):
    """Closed hours."""

    model = BlackoutHours
    counted = "hours_count"


@admin.register(BlackoutCalendar)
class BlackoutCalendarAdmin(ListAdmin):
    """Calendars, with how many schedules use each; one in use is not deleted."""

    list_display = ["name", "closed_days", "closed_hours", "used_by"]
    audited = Kind.CALENDAR
    find = search.find_by_name
    search_fields = ["name"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A part of the name.")
    inlines = [DaysInline, HoursInline]
    readonly_fields = ["used_by"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BlackoutCalendar]:
        """With the counts that the list shows."""
        calendars: QuerySet[BlackoutCalendar] = (
            super()
            .get_queryset(request)
            .annotate(
                days_count=_count_of(BlackoutDays), hours_count=_count_of(BlackoutHours), uses=_count_of(ReportSchedule)
            )
        )
        return calendars

    def get_fieldsets(self, request: HttpRequest, obj: BlackoutCalendar | None = None) -> Any:
        """A new calendar has no schedules to show."""
        note = _(
            "Days and hours are by each schedule's own clock. When they change, the schedules that use the calendar "
            "are planned anew, from then on; what is due already is not lost."
        )
        fields = ["name"] if obj is None else ["name", "used_by"]
        return [(None, {"fields": fields, "description": note})]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save, and show how many schedules use it."""
        super().save_related(request, form, formsets, change)
        if not any(formset.has_changed() for formset in formsets):
            return
        if uses := ReportSchedule.objects.filter(calendar=form.instance, enabled=True).count():
            text = ngettext("%(count)s schedule is planned anew.", "%(count)s schedules are planned anew.", uses)
            self.message_user(request, text % {"count": f"{uses:,}"}, messages.INFO)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """As Django's, but calendars in use are refused with the number of their schedules, which are not all read."""
        calendars: Any = self.get_queryset(request).filter(pk__in=[calendar.pk for calendar in objs])
        used = calendars.filter(uses__gt=0)[:NAMED]
        if refused := [self._refusal(calendar) for calendar in used]:
            return [], {}, set(), refused
        return super().get_deleted_objects(objs, request)

    @admin.display(description=_("closed days"), ordering="days_count")
    def closed_days(self, calendar: Any) -> int:
        """The number of rows of closed days."""
        return int(calendar.days_count)

    @admin.display(description=_("closed hours"), ordering="hours_count")
    def closed_hours(self, calendar: Any) -> int:
        """The number of rows of closed hours."""
        return int(calendar.hours_count)

    @admin.display(description=_("used by"), ordering="uses")
    def used_by(self, calendar: Any) -> str:
        """The number of its schedules, with a link to them."""
        text = ngettext("%(count)s schedule", "%(count)s schedules", calendar.uses) % {"count": f"{calendar.uses:,}"}
        if not calendar.uses:
            return text
        address = reverse("admin:reportqueue_reportschedule_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?calendar={}">{}</a>', address, calendar.pk, text)

    def _refusal(self, calendar: Any) -> str:
        text = gettext("{calendar} is used by {schedules}: give them another calendar, or none, first.")
        return format_html(text, calendar=calendar.name, schedules=self.used_by(calendar))


def _count_of(model: Any) -> Coalesce:
    """How many rows of the model have the calendar: one index look-up for each calendar."""
    rows = model.objects.filter(calendar=OuterRef("pk")).order_by().values("calendar")
    return Coalesce(Subquery(rows.annotate(number=Count("pk")).values("number")), 0)
