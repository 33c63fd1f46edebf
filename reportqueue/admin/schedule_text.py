"""A schedule in words: when it fires, and whether it does so at present."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.html import format_html
from django.utils.translation import gettext

from reportqueue.admin import formats
from reportqueue.models import ReportSchedule
from reportqueue.timing import EPOCH


def rule(schedule: ReportSchedule) -> str:
    """The expression or the interval in words; empty for one that was written past the checks."""
    try:
        return schedule.in_words
    except ValueError:
        return ""


def sentence(schedule: ReportSchedule) -> str:
    """All that decides when it fires."""
    parts = [rule(schedule) or schedule.cron]
    if schedule.interval_seconds is not None:
        parts.append(gettext("counted from %(start)s") % {"start": formats.instant_text(schedule.start_at or EPOCH)})
    elif schedule.start_at is not None:
        parts.append(gettext("from %(start)s on") % {"start": formats.instant_text(schedule.start_at)})
    if schedule.interval_seconds is None or schedule.calendar_id is not None:
        parts.insert(1, gettext("by the clock of %(zone)s") % {"zone": schedule.timezone})
    if schedule.end_at is not None:
        parts.append(gettext("until %(end)s") % {"end": formats.instant_text(schedule.end_at)})
    if schedule.calendar is not None:
        what = {"calendar": schedule.calendar.name, "what": schedule.get_blackout_display().lower()}
        parts.append(gettext("when the calendar %(calendar)s is closed: %(what)s") % what)
    if schedule.unique:
        parts.append(gettext("only if the same report is not unfinished already"))
    if schedule.jitter_seconds:
        parts.append(gettext("available up to %(seconds)s s later") % {"seconds": f"{schedule.jitter_seconds:,}"})
    return "; ".join(filter(None, parts))


@dataclass(frozen=True)
class State:
    """Whether a schedule fires: a sign and a word, and why."""

    style: str
    sign: str
    word: str
    detail: str = ""

    @property
    def badge(self) -> str:
        """The word with its sign; the colour is only an addition."""
        return format_html(
            '<span class="rq-status {}"><span aria-hidden="true">{}</span> {}</span>', self.style, self.sign, self.word
        )


def state(schedule: ReportSchedule, now: datetime, late_since: datetime | None, *, brief: bool = False) -> State:
    """As the database has it at `now`, its own time; `brief`, for a list, leaves out what can be reckoned.

    `late_since`: since when the scheduler should have queued its firing; None if that is not the scheduler's.
    """
    if not schedule.enabled:
        return _stopped(schedule, now, brief=brief)
    due = schedule.next_run_at
    if due is None and schedule.plan_needed:
        return State("", "…", gettext("Not planned yet"), gettext("the scheduler does it in its next pass"))
    if due is None:
        return State("rq-skipped", "■", gettext("Ended"), gettext("no firing is left"))
    if late_since is not None and (late := now - late_since).total_seconds() > formats.LATE_SECONDS:
        text = gettext("by %(time)s: is the scheduler running?") % {"time": formats.duration(late)}
        return State("rq-late", "!", gettext("Overdue"), text)
    if schedule.plan_needed:
        return State("", "…", gettext("Enabled"), gettext("is being planned anew: its calendar has changed"))
    return State("rq-succeeded", "✓", gettext("Enabled"))


def _stopped(schedule: ReportSchedule, now: datetime, *, brief: bool) -> State:
    note = schedule.pause_note
    if schedule.error:
        text = gettext("by the scheduler: %(error)s") % {"error": schedule.error}
        return State("rq-failed", "✗", gettext("Disabled"), f"{text} ({note})" if note else text)
    parts = []
    if schedule.paused_by:
        parts.append(gettext("by %(user)s") % {"user": schedule.paused_by})
    if schedule.paused_at is not None:
        if not brief:
            parts.append(gettext("at %(when)s,") % {"when": formats.instant_text(schedule.paused_at)})
        parts.append(formats.relative(schedule.paused_at, now))
    text = " ".join(parts)
    if note:
        text = f"{text}: {note}" if text else note
    return State("rq-paused", "‖", gettext("Paused"), text)
