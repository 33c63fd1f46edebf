"""The agenda in the admin: what will run, hour by hour, by the viewer's clock and in UTC."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_safe

import reportcron
from reportqueue import catalogue, modifiers, moving, schedules
from reportqueue.admin import formats, search, viewer_zone
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.search import NotUnderstood
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule
from reportqueue.schedules.agenda_numbers import Agenda, Entry, Hour, Listed, Minute, Why
from reportqueue.timing.hours import ClockSet

PERIODS = {24: "24 h", 72: "3 d", 168: "7 d"}
"""The numbers of hours to choose from."""
CLOSURES_SHOWN = 5


@dataclass
class Line:
    """One row of the table: an hour, or several hours without firings."""

    local: str
    utc: str
    marks: list[str] = field(default_factory=list)
    """Clock changes, and what calendars have closed or moved."""
    hour: Hour | None = None
    """None for hours without firings."""
    until: str = ""
    bar: str = "0"
    """The width of the bar, of 100."""
    count: str = ""
    work: str = ""
    busiest: str = ""
    summary: str = ""
    inside: str = ""
    """The list of the schedules."""


@dataclass
class Day:
    """The lines that begin on one day of the viewer's clock."""

    name: str
    lines: list[Line]


class AgendaAdmin(ListAdmin):
    """The page, for the schedules' list."""

    def get_urls(self) -> list[Any]:
        """Django's, and the address of this page."""
        view = self.admin_site.admin_view(require_safe(self.agenda_view))
        return [path("agenda/", view, name="reportqueue_reportschedule_agenda"), *super().get_urls()]

    def agenda_view(self, request: HttpRequest) -> HttpResponse:
        """The agenda from now on, for users who may view schedules."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        zone = self._zone(request)
        hours = next((one for one in PERIODS if str(one) == request.GET.get("hours")), next(iter(PERIODS)))
        report = request.GET.get("report", "").strip()
        wanted = ReportSchedule.objects.all()
        if report:
            try:
                wanted = wanted.filter(report_id__in=search.reports(report.replace("\x00", "")))
            except NotUnderstood as error:
                self.message_user(request, str(error), messages.ERROR)
                wanted = wanted.none()
        found = schedules.agenda(database_now(), hours, zone, schedules=wanted)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Agenda"),
            "opts": self.opts,
            "zone": zone,
            "zones": sorted(reportcron.zone_names()),
            "periods": PERIODS.items(),
            "hours": hours,
            "report": report,
            "add_address": self.address("add") if self.has_add_permission(request) else "",
            **_Page(self, found).context(),
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, "admin/reportqueue/agenda.html", context)

    def _zone(self, request: HttpRequest) -> str:
        """The zone of this page: that of its form, or else the viewer's. A link to an agenda changes no other page."""
        own = viewer_zone.of(request)
        asked = request.GET.get("zone", "").strip()
        if not asked:
            return own
        if zone := viewer_zone.known(asked):
            return zone
        text = gettext(
            "“%(zone)s” is not a time zone; enter a name such as Europe/Paris. These are the hours of %(own)s."
        )
        self.message_user(request, text % {"zone": asked[:64], "own": own}, messages.ERROR)
        return own


class _Page:
    """The texts of one agenda, with names that are read once for all."""

    def __init__(self, owner: AgendaAdmin, found: Agenda) -> None:
        self.owner, self.found = owner, found
        shown = self._entries()
        self.reports = catalogue.names({entry.report_id for entry in shown})
        self.modifiers = modifiers.names({entry.modifier_id for entry in shown})
        self.links = {entry.pk: self._link(entry) for entry in shown}
        self.most = max((hour.firings for hour in found.hours), default=0)

    def context(self) -> dict[str, Any]:
        """What the template shows."""
        found = self.found
        return {
            "found": found,
            "since": self._both(found.start),
            "until": self._both(found.end),
            "firings": found.firings,
            "counted": f"{found.counted:,}",
            "total": _firings(found.firings),
            "work": _work(found.work_seconds),
            "unmeasured": f"{found.unmeasured:,}" if found.unmeasured else "",
            "changes": [self._clock_set(one) for one in found.clock_sets],
            "pauses": [formats.sentence(moving.paused(pause)) for pause in found.pauses],
            "busiest": [self._minute(one) for one in found.busiest],
            "left_out": f"{found.left_out.count:,}" if found.left_out.count else "",
            "left_out_why": [_why(why, count) for why, count in found.left_out.reasons.items()],
            "left_out_named": self._named([entry for entry, _why in found.left_out.named], found.left_out.count),
            "disabled": f"{found.disabled_count:,}" if found.disabled_count else "",
            "disabled_named": self._named(found.disabled, found.disabled_count),
            "days": self._days() if found.firings else [],
            "marks": [] if found.firings else self._marks(found.hours),
        }

    def _entries(self) -> list[Entry]:
        found = self.found
        entries = [one.schedule for hour in found.hours for one in hour.listed]
        entries += [entry for minute in found.busiest for entry in minute.named]
        return list({*entries, *found.disabled, *(entry for entry, _why in found.left_out.named)})

    def _link(self, entry: Entry) -> str:
        report = catalogue.label(entry.report_id, self.reports.get(entry.report_id))
        modifier = catalogue.label(entry.modifier_id, self.modifiers.get(entry.modifier_id))
        text = gettext("report %(report)s, modifier %(modifier)s") % {"report": report, "modifier": modifier}
        held = format_html(' <span class="rq-paused rq-time">{}</span>', gettext("‖ paused")) if entry.held else ""
        return format_html('<a href="{}">{}</a>{}', self.owner.address("change", entry.pk), text, held)

    def _named(self, entries: Sequence[Entry], count: int) -> str:
        """Links to the schedules, and how many more there are."""
        listed: str = format_html_join("; ", "{}", ((self.links[entry.pk],) for entry in entries))
        if count <= len(entries):
            return listed
        return format_html("{}; {}", listed, gettext("and %(count)s more") % {"count": f"{count - len(entries):,}"})

    def _days(self) -> list[Day]:
        """The table: hours with firings, and those between them folded together."""
        lines: list[tuple[Hour, Line]] = []
        for firing, group in groupby(self.found.hours, lambda hour: bool(hour.firings)):
            hours = list(group)
            lines += [(hour, self._line(hour)) for hour in hours] if firing else [(hours[0], self._folded(hours))]
        by_day = groupby(lines, lambda one: self._local(one[0].clock.start).date())
        return [Day(f"{day:%a %Y-%m-%d}", [line for _hour, line in group]) for day, group in by_day]

    def _line(self, hour: Hour) -> Line:
        minute = hour.busiest
        return Line(
            local=f"{self._local(hour.clock.start):%H:%M %Z}",
            utc=_utc(hour.clock.start),
            marks=self._marks([hour]),
            hour=hour,
            bar=str(max(1, round(100 * hour.firings / self.most))),
            count=f"{hour.firings:,}",
            work=_work(hour.work_seconds, hour.unmeasured, hour.firings),
            busiest="" if minute is None else f"{self._local(minute.instant):%H:%M} ({minute.firings:,})",
            summary=ngettext("%(count)s schedule", "%(count)s schedules", hour.schedules)
            % {"count": f"{hour.schedules:,}"},
            inside=self._listed(hour),
        )

    def _folded(self, hours: Sequence[Hour]) -> Line:
        first, last = hours[0].clock.start, hours[-1].clock.end
        same_day = self._local(first).date() == self._local(last).date()
        return Line(
            local=f"{self._local(first):%H:%M %Z}",
            utc=_utc(first),
            marks=self._marks(hours),
            until=f"{self._local(last):{'%H:%M %Z' if same_day else '%a %Y-%m-%d %H:%M %Z'}}",
        )

    def _listed(self, hour: Hour) -> str:
        """The schedules of an hour, each by its own clock."""
        items = format_html_join(
            "", "<li>{} {}{}</li>", ((self._own(one), self.links[one.schedule.pk], _more(one)) for one in hour.listed)
        )
        if hour.schedules > len(hour.listed):
            rest = gettext("and %(count)s more") % {"count": f"{hour.schedules - len(hour.listed):,}"}
            items = format_html("{}<li>{}</li>", items, rest)
        return format_html("<ul>{}</ul>", items)

    def _own(self, one: Listed) -> str:
        own = reportcron.local(one.schedule.timezone, one.first)
        shown = f"{own:%H:%M:%S}" if one.schedule.jitter_seconds or own.second else f"{own:%H:%M}"
        return format_html('<span class="rq-time">{} {}</span>', shown, one.schedule.timezone)

    def _minute(self, minute: Minute) -> dict[str, str]:
        return {
            "local": f"{self._local(minute.instant):%a %Y-%m-%d %H:%M %Z}",
            "utc": _utc(minute.instant),
            "count": f"{minute.firings:,}",
            "named": self._named(minute.named, minute.schedules),
        }

    def _marks(self, hours: Collection[Hour]) -> list[str]:
        """What clocks and calendars do in these hours."""
        marks = [self._clock_set(hour.clock.clock_set) for hour in hours if hour.clock.clock_set is not None]
        why = sorted({name for hour in hours for name in hour.closures})
        closed = ", ".join(why[:CLOSURES_SHOWN]) + ("…" if len(why) > CLOSURES_SHOWN else "")
        if skipped := sum(hour.skipped for hour in hours):
            text = ngettext("%(count)s firing skipped", "%(count)s firings skipped", skipped)
            marks.append(text % {"count": f"{skipped:,}"})
        if away := sum(hour.moved_away for hour in hours):
            text = ngettext("%(count)s moved to another day", "%(count)s moved to another day", away)
            marks.append(text % {"count": f"{away:,}"})
        if closed:
            marks[-1] = gettext("%(what)s: closed by the calendar %(why)s") % {"what": marks[-1], "why": closed}
        if here := sum(hour.moved_here for hour in hours):
            text = ngettext("%(count)s moved here by a calendar", "%(count)s moved here by calendars", here)
            marks.append(text % {"count": f"{here:,}"})
        return marks

    def _clock_set(self, change: ClockSet) -> str:
        direction = (
            gettext("the clock is set forward by %(by)s at %(when)s: %(day)s has %(hours)s")
            if change.by > timedelta()
            else gettext("the clock is set back by %(by)s at %(when)s: %(day)s has %(hours)s")
        )
        return direction % {
            "by": formats.duration(change.by),
            "when": f"{self._local(change.instant):%H:%M %Z}",
            "day": f"{change.day:%a %Y-%m-%d}",
            "hours": _hours(change.day_length),
        }

    def _both(self, instant: datetime) -> str:
        own = f"{self._local(instant):%a %Y-%m-%d %H:%M %Z}"
        return own if self.found.timezone == "UTC" else f"{own} ({_utc(instant)} UTC)"

    def _local(self, instant: datetime) -> datetime:
        return reportcron.local(self.found.timezone, instant)


def _utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"


def _firings(count: int) -> str:
    return ngettext("%(count)s firing", "%(count)s firings", count) % {"count": f"{count:,}"}


def _work(seconds: float, unmeasured: int = 0, firings: int = 0) -> str:
    """Minutes of work, and a sign if that is not all of it."""
    if firings and unmeasured == firings:
        return gettext("unknown")
    minutes = seconds / 60
    shown = f"{minutes:,.0f}" if minutes >= 10 or not minutes else f"{max(minutes, 0.1):.1f}"
    return shown + (" +" if unmeasured else "")


def _hours(length: timedelta) -> str:
    hours = length / timedelta(hours=1)
    return gettext("%(count)s hours") % {"count": f"{hours:g}"}


def _more(one: Listed) -> str:
    parts = []
    if one.firings > 1:
        parts.append(gettext("%(count)s times") % {"count": f"{one.firings:,}"})
    if one.moved:
        parts.append(gettext("moved by its calendar"))
    if one.schedule.jitter_seconds:
        text = gettext("spread over %(time)s")
        parts.append(text % {"time": formats.duration(timedelta(seconds=one.schedule.jitter_seconds))})
    return "".join(f", {part}" for part in parts)


def _why(why: Why, count: int) -> str:
    texts = {
        Why.SCHEDULES: gettext("there are more schedules than are counted at once: %(count)s"),
        Why.FIRINGS: gettext("there are more firings than are counted at once: %(count)s"),
        Why.TIME: gettext("the time for counting was used up: %(count)s"),
        Why.BROKEN: gettext("it cannot be evaluated: %(count)s"),
    }
    return texts[why] % {"count": f"{count:,}"}
