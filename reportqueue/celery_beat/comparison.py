"""Compare the next firings of a periodic task by beat with those of the schedule that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import islice

import reportcron
from reportqueue.celery_beat.drafts import Draft

MAX_FIRINGS = 50
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Line:
    """An instant (aware UTC) at which beat fires, or the schedule, or both."""

    instant: datetime
    reading: datetime
    """By the schedule's own clock, with its offset."""
    beat: bool
    ours: bool
    why: str
    """Why only one of them fires, if that is known; or why beat might not fire."""


def compare(draft: Draft, count: int) -> list[Line]:
    """The first `count` firings (1 to `MAX_FIRINGS`) of each, in order, up to the last instant known for both."""
    beat = list(islice(draft.outlook.firings(draft.rule, draft.now, draft.task.expires), count))
    ours = list(islice(draft.schedule.timing().firings(draft.now, reportcron.LAST), count))
    # One of them may have its `count` firings earlier: later firings of the other cannot be compared.
    known = min((firings[-1] for firings in (beat, ours) if len(firings) == count), default=reportcron.LAST)
    return [
        Line(
            instant,
            reportcron.local(draft.schedule.timezone, instant),
            by_beat,
            by_us,
            _why(draft, instant, by_beat, by_us),
        )
        for instant in sorted({*beat, *ours})
        if instant <= known
        for by_beat, by_us in [(instant in beat, instant in ours)]
    ]


def _why(draft: Draft, instant: datetime, by_beat: bool, by_us: bool) -> str:
    differs = by_beat != by_us
    if (late := draft.outlook.late) is not None and differs:
        if instant == late:
            return "late, so that beat fires it off its rule, when it next looks at it"
        if draft.schedule.interval_seconds is not None:
            return "beat is late, and counts from when it runs" if by_beat else "counted from the last run or the start"
    if draft.schedule.interval_seconds is not None or not _clock_changes(draft.schedule.timezone, instant):
        return ""
    if not differs:
        return "the clock changes that day: before celery 5.5, beat may differ"
    if by_beat:
        return "the clock skips a reading that day: beat fires it by the offset before"
    change = reportcron.clock_change(draft.schedule.cron, draft.schedule.timezone, instant)
    if change == reportcron.ClockChange.SKIPPED:
        return "the clock skips the reading that was meant: this is the first instant after"
    if change == reportcron.ClockChange.REPEATED:
        return "the clock shows that reading twice: beat fires at the first of them only"
    return ""


def _clock_changes(timezone: str, instant: datetime) -> bool:
    """Whether the local day is longer or shorter than 24 hours."""
    midnight = datetime.combine(reportcron.reading_of(timezone, instant).date(), time())
    return reportcron.instant_of(timezone, midnight + _DAY) - reportcron.instant_of(timezone, midnight) != _DAY
