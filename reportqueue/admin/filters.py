"""The lists' filters: choices and inputs, each with a condition that stays fast over a long history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Q, QuerySet, TextChoices
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, failures, queue
from reportqueue.admin.report_input import ReportInput
from reportqueue.admin.search import NotUnderstood, number
from reportqueue.models import Report, ReportQueue, ReportSchedule
from reportqueue.models.queue import failed_like, unfinished
from reportqueue.models.report import ROUTE
from reportqueue.states import FINAL, Source, Status


class ChoiceFilter(admin.SimpleListFilter):
    """A filter by one of a few values. Other values are refused before any query."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the chosen value, or all."""
        if (value := self.value()) is None:
            return queryset
        if value not in {str(choice) for choice, _ in self.lookup_choices}:
            raise IncorrectLookupParameters(f"{self.parameter_name} has no such value.")
        return self.chosen_rows(queryset, value)

    def chosen_rows(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """The rows of one of the choices."""
        return rows.filter(self.condition(value))

    def condition(self, value: str) -> Q:
        """The condition for one of the choices."""
        return Q((self.parameter_name, value))


class MemberFilter(ChoiceFilter):
    """A filter by the members of an enumeration, all of which it offers."""

    members: type[TextChoices]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Every member."""
        return self.members.choices


class StatusFilter(MemberFilter):
    """A row's status."""

    title = _("status")
    parameter_name = "status"
    members = Status

    def condition(self, value: str) -> Q:
        """As the conditions of the indexes are."""
        return Q(status=value) if value in FINAL else unfinished() & Q(status=value)


class SourceFilter(MemberFilter):
    """A row's source."""

    title = _("source")
    parameter_name = "source"
    members = Source


class YesNoFilter(ChoiceFilter):
    """A filter with the choices yes and no."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Yes or no."""
        return [("yes", _("Yes")), ("no", _("No"))]


class ProcessedFilter(YesNoFilter):
    """Whether a row has ended."""

    title = _("processed")
    parameter_name = "processed"

    def condition(self, value: str) -> Q:
        """By statuses, as the conditions of the indexes are."""
        return unfinished() if value == "no" else Q(status__in=sorted(FINAL))


LONG_SECONDS = 60
"""A due row that has waited for longer than this has waited for long."""


class NowFilter(ChoiceFilter):
    """What the overview counts: rows by what happens to them now."""

    title = _("now")
    parameter_name = "now"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """As the overview names them."""
        return [
            ("waiting", _("Waiting")),
            ("long", _("Waiting for more than a minute")),
            ("retrying", _("Waiting for another try")),
            ("in_flight", _("In flight")),
            ("late", _("Late")),
            ("failed", _("Failed in the last hour")),
        ]

    def chosen_rows(self, rows: Any, value: str) -> QuerySet[Any]:
        """By the queries that the overview counts, with the condition of the list's index; in the list's order."""
        listed = rows.filter(unfinished())
        long = Q(available_at__lte=Now() - timedelta(seconds=LONG_SECONDS))
        chosen: dict[str, QuerySet[Any]] = {
            "waiting": listed.due(),
            "long": listed.due().filter(long),
            "retrying": listed.retrying(),
            "in_flight": listed.in_flight(),
            "late": rows.past_deadline(),
            "failed": rows.filter(pk__in=ReportQueue.objects.failed_lately().values("pk")),
        }
        return chosen[value].order_by(*rows.query.order_by)


class ChosenFilter(ChoiceFilter):
    """A filter with too many choices to list. It is shown when a link has chosen one."""

    chosen: Any
    """The text of the choice, with its %(id)s."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """The chosen one alone."""
        try:
            value = number(self.value() or "", str(self.parameter_name))
        except NotUnderstood:
            return []
        return [(str(value), self.chosen % {"id": value})]

    def has_output(self) -> bool:
        """Shown also for an invalid value, which is then refused."""
        return self.value() is not None


class ScheduleFilter(ChosenFilter):
    """The rows of one schedule."""

    title = _("schedule")
    parameter_name = "schedule"
    chosen = _("Schedule %(id)s")


class FailureFilter(ChosenFilter):
    """The rows that failed alike."""

    title = _("failure")
    parameter_name = "failure"
    chosen = _("Failure %(id)s")

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """The chosen one alone."""
        value = str(self.value() or "")
        return [(value, self.chosen % {"id": value})] if failures.is_fingerprint(value) else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """As that of others. Rows of another status are none: the index would be read to the end of the group."""
        rows, asked = super().queryset(request, queryset), request.GET
        others = asked.get(StatusFilter.parameter_name, Status.FAILED) != Status.FAILED
        none = self.value() is not None and (others or asked.get(ProcessedFilter.parameter_name) == "no")
        return rows.none() if none else rows

    def condition(self, value: str) -> Q:
        """As the condition of the index is."""
        return failed_like(value)


class RouteFilter(ChoiceFilter):
    """A route of the catalogue."""

    title = _("route")
    parameter_name = "route"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """The routes that reports have."""
        routes = Report.objects.order_by("route").values_list("route", flat=True).distinct()
        return [(route, route) for route in routes]


class RowRouteFilter(ChoiceFilter):
    """A row's route: one that is known now, or one that a link names."""

    title = _("route")
    parameter_name = "route"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """The routes of the catalogue, of consumers and of queued rows, if there are several."""
        chosen = self.value()
        if chosen is not None and not ROUTE.fullmatch(chosen):
            return [(route, route) for route in queue.known_routes()]
        routes = sorted({*queue.known_routes(), *([chosen] if chosen else [])})
        return [(route, route) for route in routes] if len(routes) > 1 or chosen else []


class CalendarFilter(ChosenFilter):
    """The schedules of one calendar."""

    title = _("calendar")
    parameter_name = "calendar"
    chosen = _("Calendar %(id)s")


class EnabledFilter(YesNoFilter):
    """Whether a schedule fires, or a webhook source accepts deliveries."""

    title = _("enabled")
    parameter_name = "enabled"

    def condition(self, value: str) -> Q:
        """By `enabled`."""
        return Q(enabled=value == "yes")


class TokenStateFilter(ChoiceFilter):
    """Whether an API token has ended, and how."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """The states, but for that of the user."""
        return [("usable", _("Neither revoked nor expired")), ("expired", _("Expired")), ("revoked", _("Revoked"))]

    def condition(self, value: str) -> Q:
        """By its instants."""
        if value == "revoked":
            return Q(revoked_at__isnull=False)
        expired = Q(expires_at__lte=Now())
        return Q(revoked_at=None) & (expired if value == "expired" else Q(expires_at=None) | ~expired)


class ProblemFilter(YesNoFilter):
    """Whether the scheduler has disabled a schedule."""

    title = _("problem")
    parameter_name = "problem"
    field = "error"
    """The column that has the problem as a text."""

    def condition(self, value: str) -> Q:
        """By the text of the problem."""
        none = Q((self.field, ""))
        return ~none if value == "yes" else none


class TimezoneFilter(ChoiceFilter):
    """A schedule's time zone."""

    title = _("time zone")
    parameter_name = "timezone"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """The zones in use."""
        zones = ReportSchedule.objects.order_by("timezone").values_list("timezone", flat=True).distinct()
        return [(zone, zone) for zone in zones]


class FormFilter(admin.ListFilter):
    """A filter with inputs, where choices might be millions. An invalid value finds nothing and says why."""

    template = "admin/reportqueue/form_filter.html"
    form_class: type[forms.Form]

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.expected_parameters():
            if name in params:
                self.used_parameters[name] = params.pop(name)[-1]
        self.form = self.form_class(self.used_parameters, auto_id="filter-%s")

    def has_output(self) -> bool:
        """Always: it costs no query."""
        return True

    def expected_parameters(self) -> list[str | None]:
        """The inputs' names."""
        return list(self.form_class.base_fields)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """The template's values: the form, and the list's other parameters, which the form has to keep."""
        mine = {*self.expected_parameters(), PAGE_VAR}
        yield {
            "form": self.form,
            "kept": [(name, value) for name, value in changelist.params.items() if name not in mine],
            "used": any(self.used_parameters.values()),
            "without": changelist.get_query_string(dict.fromkeys(map(str, mine))),
        }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows that match the inputs."""
        if not self.form.is_valid():
            return queryset.none()
        given = {name: value for name, value in self.form.cleaned_data.items() if value is not None}
        return queryset.filter(self.condition(given))

    def condition(self, given: dict[str, Any]) -> Q:
        """The condition for the filled inputs."""
        return Q(**given)


class _ReportForm(forms.Form):
    report_id = forms.IntegerField(
        label=_("Report"), required=False, min_value=0, max_value=bounds.MAX_ID, widget=ReportInput
    )
    modifier_id = forms.IntegerField(label=_("Modifier"), required=False, min_value=0, max_value=bounds.MAX_ID)


class ReportFilter(FormFilter):
    """A report, a modifier, or both; found through an index for each."""

    title = _("report")
    form_class = _ReportForm


def _day(label: Any) -> forms.DateField:
    return forms.DateField(
        label=label,
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        validators=[MinValueValidator(date(1970, 1, 1)), MaxValueValidator(date(2999, 12, 31))],
    )


class _DaysForm(forms.Form):
    due_from = _day(_("From"))
    due_until = _day(_("To"))


class DayFilter(FormFilter):
    """Days in UTC, both included, of the column `field`, which has an index. It reaches rows beyond the last page."""

    form_class = _DaysForm
    field: str

    def condition(self, given: dict[str, Any]) -> Q:
        """Bounds of the column."""
        meant = Q()
        if day := given.get("due_from"):
            meant &= Q((f"{self.field}__gte", datetime.combine(day, time(), UTC)))
        if day := given.get("due_until"):
            meant &= Q((f"{self.field}__lt", datetime.combine(day + timedelta(days=1), time(), UTC)))
        return meant


class DueFilter(DayFilter):
    """The days on which rows are due."""

    title = _("day due (UTC)")
    field = "trigger_time"
