"""What becomes of a schedule's due instants: which are queued, which are skipped and why, and what comes next.

A function of values alone, so that schedules which share a timing and an anchor share the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from reportqueue.timing import Timing
from reportqueue.timing.policies import CatchUp, SkipReason

COUNTED = 2_000
"""Skipped instants are counted up to here; after a year without a scheduler there may be half a million."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class CatchUpRule:
    """A schedule's `catch_up` with its bounds; `grace` is the age until which an instant counts as on time."""

    policy: CatchUp
    window: timedelta
    limit: int
    grace: timedelta


@dataclass(frozen=True)
class Skip:
    """Instants, one after the other, that are not run for one reason."""

    reason: SkipReason
    why: str
    """For people, without the count."""
    instants: tuple[datetime, ...]
    """Oldest first; at most `COUNTED`, the oldest of them."""
    complete: bool = True
    """Whether `instants` are all."""


@dataclass(frozen=True)
class CaughtUp:
    """The answer for one schedule, or for all that share its timing, anchor and rule."""

    fires: tuple[datetime, ...]
    skips: tuple[Skip, ...]
    next_run_at: datetime | None
    planned_from: datetime
    """The new anchor: up to here everything is settled."""


def catch_up(
    timing: Timing, rule: CatchUpRule, planned: datetime, planned_from: datetime | None, now: datetime
) -> CaughtUp:
    """What becomes of `planned`, the first firing after the anchor, and of all that has come due since.

    Instants that are on time are queued. Older ones were missed: the catch-up rule says which of them are made up
    for, the newest ones first; the others are skipped. Raises `cron.CronError`, `timing.NeverFires`.
    """
    before = planned - _TICK
    on_time = list(_firings(timing, planned, max(before, now - rule.grace), now))
    made_up, all_seen = _made_up_for(timing, rule, planned, now, has_later=bool(on_time))
    fires = (*made_up, *on_time)
    skips = []
    first_kept = fires[0] if fires else now + _TICK
    if missed := _counted(timing, planned, before, min(now, first_kept - _TICK)):
        skips.append(Skip(SkipReason.MISFIRE, _why_missed(rule), *missed))
    # Who looked back for long and found none need not look again.
    settled_until = _last(timing, planned, now, fires) if all_seen or fires else now
    if timing.calendar is not None and planned_from is not None:
        skips += _blackouts(timing, planned_from, settled_until)
    return CaughtUp(fires, tuple(skips), timing.next_firing(settled_until), settled_until)


def _firings(timing: Timing, planned: datetime, after: datetime, until: datetime) -> Iterable[datetime]:
    """The due instants in `(after, until]`; the planned one is taken at its word."""
    if after < planned <= until:
        yield planned
    yield from timing.firings(max(after, planned), until)


def _made_up_for(
    timing: Timing, rule: CatchUpRule, planned: datetime, now: datetime, *, has_later: bool
) -> tuple[list[datetime], bool]:
    """The missed instants that are queued, and whether the search for them came to its end."""
    if rule.policy == CatchUp.SKIP or (rule.policy == CatchUp.LAST and has_later):
        return [], True
    count = 1 if rule.policy == CatchUp.LAST else rule.limit
    oldest, newest = max(planned, now - rule.window), now - rule.grace
    if oldest > newest:
        return [], True
    found = timing.newest(count, max(planned, oldest - _TICK), newest)
    if found.complete and len(found.instants) < count and oldest <= planned <= newest:
        return [planned, *found.instants], True
    return found.instants, found.complete


def _why_missed(rule: CatchUpRule) -> str:
    if rule.policy == CatchUp.SKIP:
        return "missed while no scheduler ran"
    if rule.policy == CatchUp.LAST:
        return "missed while no scheduler ran; only the last is made up for"
    return (
        f"missed while no scheduler ran; at most {rule.limit:,} of the last {rule.window.total_seconds():,.0f} s "
        "are made up for"
    )


def _last(timing: Timing, planned: datetime, now: datetime, fires: tuple[datetime, ...]) -> datetime:
    """The last due instant, queued or not."""
    if fires:
        return fires[-1]
    newest = timing.newest(1, planned, now)
    if not newest.complete:
        return now
    return newest.instants[0] if newest.instants else planned


def _blackouts(timing: Timing, after: datetime, until: datetime) -> list[Skip]:
    """The closed instants in `(after, until]`, those of one closure together."""
    occurrences = takewhile(lambda occurrence: occurrence.instant <= until, timing.occurrences(after))
    by_closure: dict[str, list[datetime]] = {}
    count = 0
    for occurrence in islice(occurrences, COUNTED):
        count += 1
        if occurrence.closed:
            by_closure.setdefault(occurrence.closed, []).append(occurrence.instant)
    return [
        Skip(SkipReason.BLACKOUT, f"closed by the calendar {why}", tuple(instants), count < COUNTED)
        for why, instants in by_closure.items()
    ]


def _counted(
    timing: Timing, planned: datetime, after: datetime, until: datetime
) -> tuple[tuple[datetime, ...], bool] | None:
    """The firings in `(after, until]`, and whether they are all; those that a calendar closes are walked over."""
    found = [planned] if after < planned <= until else []
    following = takewhile(lambda one: one.instant <= until, timing.occurrences(max(after, planned)))
    walked = len(found)
    for occurrence in islice(following, COUNTED):
        walked += 1
        if not occurrence.closed:
            found.append(occurrence.instant)
    return (tuple(found[:COUNTED]), walked <= COUNTED) if found else None
