"""Which pattern a firing belongs to, and the hand-over from one to another at an instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import QuerySet

from reportqueue import notices
from reportqueue.bounds import EARLIEST
from reportqueue.clock import database_now
from reportqueue.errors import HandoverRefused
from reportqueue.locks import bounded, lock_until_commit
from reportqueue.models import ReportSchedule, TriggerPeriod
from reportqueue.patterns import SENSOR_FIRED, Pattern

NAMED = 10
"""Schedules that a refusal names."""
_TICK = timedelta(microseconds=1)
_LOCK = "reportqueue.handovers"


@dataclass(frozen=True)
class Window:
    """The newest stretch, begun by some instant, whose firings the scheduler queues."""

    first: datetime | None
    """Earlier firings were others' to make; None: all are the scheduler's."""
    last: datetime
    """Later ones are not yet, or not any more, the scheduler's."""


def window(now: datetime) -> Window:
    """What of the time until `now` (aware) is the scheduler's; an empty stretch if nothing is."""
    return _window(_periods(), now)


def _window(periods: list[TriggerPeriod], now: datetime) -> Window:
    found: Window | None = None
    for period in periods:
        if period.pattern in SENSOR_FIRED or (period.since is not None and period.since > now):
            continue
        last = now if period.until is None else min(now, period.until - _TICK)
        # The scheduler does not care which consumer takes what it queues: the periods are one.
        joins = found is not None and period.since is not None and found.last + _TICK == period.since
        found = Window(found.first if found is not None and joins else period.since, last)
    return found or Window(None, EARLIEST)


def scheduler_from(planned: datetime, now: datetime) -> datetime | None:
    """From when on the scheduler has to do with a firing planned for then: at once, or once it takes over; or never."""
    periods = _periods()
    if planned <= _window(periods, now).last:
        return planned
    for period in periods:
        if period.pattern not in SENSOR_FIRED and (period.until is None or period.until > max(planned, now)):
            return planned if period.since is None else max(planned, period.since)
    return None


def pattern_at(instant: datetime) -> Pattern:
    """The pattern to which a firing at this instant (aware) belongs."""
    return Pattern(_period_at(instant).pattern)


def overdue(seconds: int) -> QuerySet[ReportSchedule]:
    """Enabled schedules with a firing that the scheduler should have queued more than `seconds` ago."""
    now = database_now()
    ours, before = window(now), now - timedelta(seconds=seconds)
    if ours.first is not None and ours.first >= before:
        return ReportSchedule.objects.none()
    return ReportSchedule.objects.due(min(before, ours.last))


@dataclass(frozen=True)
class Handover:
    """From `before` to `after`: firings at `at` (aware UTC) and later belong to `after`."""

    before: Pattern
    after: Pattern
    at: datetime


@dataclass(frozen=True)
class Current:
    """The pattern in force, since when (None: from the beginning), and the hand-over that is planned."""

    now: datetime
    pattern: Pattern
    since: datetime | None
    planned: Handover | None


def current() -> Current:
    """Where things stand by the database's clock."""
    now = database_now()
    period = _period_at(now)
    last = TriggerPeriod.objects.last() or period
    planned = None
    if last.since is not None and last.since > now:
        planned = Handover(Pattern(period.pattern), Pattern(last.pattern), last.since)
    return Current(now, Pattern(period.pattern), period.since, planned)


def history() -> list[Handover]:
    """Every hand-over there was or is planned, oldest first."""
    periods = list(TriggerPeriod.objects.all())
    return [
        Handover(Pattern(before.pattern), Pattern(after.pattern), after.since)
        for before, after in pairwise(periods)
        if after.since is not None
    ]


def hand_over(to: Pattern, *, at: datetime | None = None, by: str = "", dry_run: bool = False) -> Handover:
    """Let firings at `at` (aware, not in the past; default now) and later belong to `to`, until further notice.

    Nothing else moves: what was fired stays, and what is due before belongs to the pattern before. Raises
    `HandoverRefused`, with the reason and what to do about it.
    """
    with bounded():
        lock_until_commit(_LOCK)
        state = current()
        at = state.now if at is None else at
        if state.planned is not None:
            raise HandoverRefused(
                f"A hand-over to {state.planned.after} at {state.planned.at:%Y-%m-%d %H:%M:%S}Z is planned already: "
                "cancel it first."
            )
        if to == state.pattern:
            raise HandoverRefused(f"Firings belong to {to} already.")
        if at < state.now:
            raise HandoverRefused("The instant has passed, and its firings with it: name one to come, or leave it out.")
        if to in SENSOR_FIRED:
            _require_plain_schedules(to)
        elif state.pattern in SENSOR_FIRED:
            _require_nothing_left_over(state.now)
        if not dry_run:
            if not TriggerPeriod.objects.filter(until=None).update(until=at):
                TriggerPeriod.objects.create(pattern=state.pattern, until=at)
            TriggerPeriod.objects.create(pattern=to, since=at, switched_by=by[:150])
            notices.schedules_changed()
        return Handover(state.pattern, to, at)


def cancel_planned() -> Handover:
    """Let everything stay with the pattern now in force. Raises `HandoverRefused` if no hand-over is planned."""
    with bounded():
        lock_until_commit(_LOCK)
        planned = current().planned
        if planned is None:
            raise HandoverRefused("No hand-over is planned.")
        TriggerPeriod.objects.filter(since=planned.at).delete()
        TriggerPeriod.objects.filter(until=planned.at).update(until=None)
        notices.schedules_changed()
        return planned


_ALWAYS_QUEUE = TriggerPeriod(pattern=Pattern.QUEUE)


def _periods() -> list[TriggerPeriod]:
    return [*TriggerPeriod.objects.all()] or [_ALWAYS_QUEUE]


def _period_at(instant: datetime) -> TriggerPeriod:
    return TriggerPeriod.objects.at(instant).first() or _ALWAYS_QUEUE


def _require_plain_schedules(to: Pattern) -> None:
    found = ReportSchedule.objects.filter(enabled=True).queue_only().order_by("pk")
    named = [f"schedule {schedule.pk} ({', '.join(schedule.queue_only_fields())})" for schedule in found[: NAMED + 1]]
    if named:
        more = " and more" if len(named) > NAMED else ""
        raise HandoverRefused(
            f"Only the scheduler can fire what these have: {', '.join(named[:NAMED])}{more}. Change or pause them "
            f"before the hand-over to {to}."
        )


def _require_nothing_left_over(now: datetime) -> None:
    """What the scheduler still has to queue of an earlier stretch, it would pass over in the new one."""
    left = ReportSchedule.objects.due(window(now).last).count()
    if left:
        raise HandoverRefused(
            f"Schedules with firings that are still to be queued: {left:,}. Run manage.py enqueue_due_reports first."
        )
