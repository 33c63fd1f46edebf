"""The next firings as a table, by each clock that matters, with the effects of clock changes and calendar."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.template.loader import render_to_string
from django.utils.translation import gettext

import reportcron
from reportqueue import schedules
from reportqueue.admin import formats
from reportqueue.models import ReportSchedule
from reportqueue.schedules.forecast import SKIPS_SHOWN


@dataclass(frozen=True)
class Line:
    """One instant of the table."""

    number: str
    """The number of the firing, or a sign for an instant that is skipped."""
    clocks: list[tuple[str, str]]
    """Each zone, and the instant in it."""
    remarks: list[str]
    closed: bool


def table(schedule: ReportSchedule, count: int, *, after: datetime | None = None) -> str:
    """The next `count` firings after `after`, and the closed instants between them; or why the schedule cannot fire.

    `after` is as in `schedules.forecast`.
    """
    try:
        found = schedules.forecast(schedule, count, after=after)
        lines = _lines(schedule, found.instants)
    except (ValueError, OverflowError) as error:  # written past the checks: the page must work, to correct it
        return str(error)
    fires = sum(not line.closed for line in lines)
    context = {
        "lines": lines,
        "zones": formats.clocks(schedule.timezone),
        "fires": fires,
        "complete": fires == count,
        "ended_early": not found.complete,
        "more_closed": len(lines) - fires == SKIPS_SHOWN,
        "closed_shown": SKIPS_SHOWN,
    }
    return render_to_string("admin/reportqueue/firings.html", context)


def _lines(schedule: ReportSchedule, found: list[schedules.Forecast]) -> list[Line]:
    lines = []
    zones = formats.clocks(schedule.timezone)
    fires = 0
    for forecast in found:
        fires += not forecast.closed
        lines.append(
            Line(
                number=formats.SYMBOLS["skipped"] if forecast.closed else str(fires),
                clocks=list(zip(zones, formats.by_clocks(forecast.instant, zones), strict=True)),
                remarks=_remarks(schedule, forecast),
                closed=bool(forecast.closed),
            )
        )
    return lines


def _remarks(schedule: ReportSchedule, forecast: schedules.Forecast) -> list[str]:
    if forecast.closed:
        return [gettext("skipped: closed by the calendar %(why)s") % {"why": forecast.closed}]
    remarks = []
    if forecast.moved_from is not None:
        origin = formats.local(forecast.moved_from, schedule.timezone) or f"{forecast.moved_from:%a %Y-%m-%d %H:%M} UTC"
        remarks.append(gettext("moved by the calendar, from %(when)s") % {"when": origin})
    if forecast.clock_change == reportcron.ClockChange.SKIPPED:
        text = gettext("%(time)s does not exist that day: runs at the first instant after the gap")
        remarks.append(text % {"time": f"{_meant(schedule, forecast):%H:%M}"})
    elif forecast.clock_change == reportcron.ClockChange.REPEATED:
        if not schedule.cron or forecast.moved_from is not None or _fires_at_both(schedule, forecast):
            first, second = gettext("this is the first of the two"), gettext("this is the second of the two")
            what = second if forecast.reading.fold else first
        else:
            what = gettext("runs once, the first time")
        text = gettext("%(time)s comes twice that day: %(what)s")
        remarks.append(text % {"time": f"{forecast.reading:%H:%M}", "what": what})
    return remarks


def _meant(schedule: ReportSchedule, forecast: schedules.Forecast) -> datetime:
    """The reading in the gap that the expression matches; the last one if there are several."""
    # UTC has no gaps: there, the expression's firings are the readings themselves.
    return reportcron.previous_before(schedule.cron, "UTC", forecast.reading.replace(tzinfo=UTC))


def _fires_at_both(schedule: ReportSchedule, forecast: schedules.Forecast) -> bool:
    """Whether the expression fires at both instants of a repeated reading."""
    other = forecast.reading.replace(fold=1 - forecast.reading.fold).astimezone(UTC)
    return reportcron.next_after(schedule.cron, schedule.timezone, other - timedelta(microseconds=1)) == other
