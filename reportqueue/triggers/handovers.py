"""Which pattern owns a firing, and the hand-over of later firings from one pattern to another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from django.db.models import QuerySet

from reportqueue import audit, bounds, notices
from reportqueue.clock import database_now
from reportqueue.errors import HandoverRefused
from reportqueue.locks import bounded, lock_until_commit
from reportqueue.models import ReportSchedule, TriggerPeriod
from reportqueue.models.audit import Kind
from reportqueue.patterns import SENSOR_FIRED, Pattern

NAMED = 10
"""How many schedules a refusal names."""
_TICK = timedelta(microseconds=1)
_LOCK = "reportqueue.handovers"


@dataclass(frozen=True)
class Window:
    """The latest time range whose firings the scheduler queues."""

    first: datetime | None
    """Firings before this instant belong to another pattern; None: the range has no beginning."""
    last: datetime
    """Firings after this instant are not due yet, or belong to another pattern."""


def window(now: datetime) -> Window:
    """The latest time range, begun by `now` (aware), that belongs to the scheduler; an empty one if there is none."""
    return _window(_periods(), now)


def _window(periods: list[TriggerPeriod], now: datetime) -> Window:
    found: Window | None = None
    for period in periods:
        if period.pattern in SENSOR_FIRED or (period.since is not None and period.since > now):
            continue
        last = now if period.until is None else min(now, period.until - _TICK)
        # The scheduler queues for both `queue` and `polling`: adjoining periods of them are one range.
        joins = found is not None and period.since is not None and found.last + _TICK == period.since
        found = Window(found.first if found is not None and joins else period.since, last)
    return found or Window(None, bounds.EARLIEST)


def scheduler_from(planned: datetime, now: datetime) -> datetime | None:
    """When the scheduler may queue a firing that is planned for `planned`: then, or when it takes over; or None."""
    periods = _periods()
    if planned <= _window(periods, now).last:
        return planned
    for period in periods:
        if period.pattern not in SENSOR_FIRED and (period.until is None or period.until > max(planned, now)):
            return planned if period.since is None else max(planned, period.since)
    return None


def pattern_at(instant: datetime) -> Pattern:
    """The pattern that owns a firing at this instant (aware)."""
    return Pattern(_period_at(instant).pattern)


def overdue(
    seconds: int, *, now: datetime | None = None, periods: list[TriggerPeriod] | None = None
) -> QuerySet[ReportSchedule]:
    """Enabled schedules with a firing that the scheduler should have queued more than `seconds` ago.

    `now`, the database's time, and all `periods` are for a caller that has read them already.
    """
    now = now or database_now()
    ours = _window(_periods() if periods is None else periods or [_ALWAYS_QUEUE], now)
    before = now - timedelta(seconds=seconds)
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
    """The current pattern."""

    now: datetime
    pattern: Pattern
    """The pattern that owns firings now."""
    since: datetime | None
    """When it took over; None: from the beginning."""
    planned: Handover | None
    """The hand-over to come, if one is planned."""


def current() -> Current:
    """The current pattern and the planned hand-over, by the database's clock."""
    now = database_now()
    period = _period_at(now)
    last = TriggerPeriod.objects.last() or period
    planned = None
    if last.since is not None and last.since > now:
        planned = Handover(Pattern(period.pattern), Pattern(last.pattern), last.since)
    return Current(now, Pattern(period.pattern), period.since, planned)


def history() -> list[Handover]:
    """All hand-overs, past and planned, oldest first."""
    periods = list(TriggerPeriod.objects.all())
    return [
        Handover(Pattern(before.pattern), Pattern(after.pattern), after.since)
        for before, after in pairwise(periods)
        if after.since is not None
    ]


def hand_over(to: Pattern, *, at: datetime | None = None, by: str = "", dry_run: bool = False) -> Handover:
    """Let firings at `at` (aware, not in the past; default now) and later belong to `to`, until further notice.

    Nothing else changes: queued rows stay, and earlier firings still belong to the pattern before. Raises
    `HandoverRefused`, with the reason and what to do about it.
    """
    with bounded():
        lock_until_commit(_LOCK)
        state = current()
        at = state.now if at is None else at
        if state.planned is not None:
            raise HandoverRefused(
                f"A hand-over to {state.planned.after} at {state.planned.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z is "
                "planned already: cancel it first."
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
            TriggerPeriod.objects.create(pattern=to, since=at, switched_by=by[: bounds.MAX_USER_LENGTH])
            changes = {"pattern": [state.pattern, to], "at": [None, at.isoformat()]}
            audit.record("hand over", Kind.PATTERN, to, label=f"{state.pattern} to {to}", changes=changes)
            notices.schedules_changed()
        return Handover(state.pattern, to, at)


def cancel_planned() -> Handover:
    """Cancel the planned hand-over. Raises `HandoverRefused` if none is planned."""
    with bounded():
        lock_until_commit(_LOCK)
        planned = current().planned
        if planned is None:
            raise HandoverRefused("No hand-over is planned.")
        TriggerPeriod.objects.filter(since=planned.at).delete()
        TriggerPeriod.objects.filter(until=planned.at).update(until=None)
        audit.record("cancel", Kind.PATTERN, planned.after, label=f"{planned.before} to {planned.after}")
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
    """Refuse while earlier firings are still to be queued: in its new period, the scheduler would leave them out."""
    left = ReportSchedule.objects.due(window(now).last).count()
    if left:
        raise HandoverRefused(
            f"Schedules with firings that are still to be queued: {left:,}. Run manage.py enqueue_due_reports first."
        )
