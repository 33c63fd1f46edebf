"""Catching up: which of a schedule's due instants are queued, which are skipped and why, and when it fires next.

It computes with values alone, so that equal schedules can share the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from reportqueue.timing import Timing
from reportqueue.timing.policies import CatchUp, SkipReason

COUNTED = 2_000
"""Skipped instants are counted up to this number; after a year without a scheduler there may be half a million."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class CatchUpRule:
    """What to do with instants that passed while no scheduler ran."""

    policy: CatchUp
    window: timedelta
    """Instants that were missed longer ago are skipped."""
    limit: int
    """At most this many missed instants are queued."""
    grace: timedelta
    """An instant counts as on time up to this age."""


@dataclass(frozen=True)
class Skip:
    """Successive instants that are skipped for one reason."""

    reason: SkipReason
    why: str
    """For people, without the count."""
    instants: tuple[datetime, ...]
    """Oldest first; at most `COUNTED`, the oldest of them."""
    complete: bool = True
    """Whether `instants` are all."""


@dataclass(frozen=True)
class CaughtUp:
    """What becomes of due instants, and the schedule's new plan."""

    fires: tuple[datetime, ...]
    """The instants to queue, oldest first."""
    skips: tuple[Skip, ...]
    next_run_at: datetime | None
    planned_from: datetime
    """The new anchor: every instant up to here is queued or skipped."""


def catch_up(
    timing: Timing, rule: CatchUpRule, planned: datetime, planned_from: datetime | None, now: datetime
) -> CaughtUp:
    """What becomes of the instants from `planned`, the first firing after the anchor, until `now`.

    Instants that are on time are queued. Older ones were missed: the rule says which of them are queued late, the
    newest ones first; the others are skipped. Raises `reportcron.CronError`, `timing.NeverFires`.
    """
    before = planned - _TICK
    on_time = list(_firings(timing, planned, max(before, now - rule.grace), now))
    made_up, all_seen = _made_up_for(timing, rule, planned, now, has_later=bool(on_time))
    fires = (*made_up, *on_time)
    skips = []
    first_kept = fires[0] if fires else now + _TICK
    if missed := _counted(timing, planned, before, min(now, first_kept - _TICK)):
        skips.append(Skip(SkipReason.MISFIRE, _why_missed(rule), *missed))
    # If the search for missed instants ended early and found none, another search would end early too.
    settled_until = _last(timing, planned, now, fires) if all_seen or fires else now
    if timing.calendar is not None and planned_from is not None:
        skips += blackouts(timing, planned_from, settled_until)
    return CaughtUp(fires, tuple(skips), timing.next_firing(settled_until), settled_until)


def _firings(timing: Timing, planned: datetime, after: datetime, until: datetime) -> Iterable[datetime]:
    """The due instants in `(after, until]`. `planned` is one of them, whatever the timing says now."""
    if after < planned <= until:
        yield planned
    yield from timing.firings(max(after, planned), until)


def _made_up_for(
    timing: Timing, rule: CatchUpRule, planned: datetime, now: datetime, *, has_later: bool
) -> tuple[list[datetime], bool]:
    """The missed instants to queue, and whether the search for them was complete."""
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
    """The newest due instant, queued or not."""
    if fires:
        return fires[-1]
    newest = timing.newest(1, planned, now)
    if not newest.complete:
        return now
    return newest.instants[0] if newest.instants else planned


def blackouts(timing: Timing, after: datetime, until: datetime) -> list[Skip]:
    """The closed instants in `(after, until]`, one `Skip` for each closure."""
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
    """The firings in `(after, until]`, and whether they are all; None without any. Closed instants do not count."""
    found = [planned] if after < planned <= until else []
    following = takewhile(lambda one: one.instant <= until, timing.occurrences(max(after, planned)))
    walked = len(found)
    for occurrence in islice(following, COUNTED):
        walked += 1
        if not occurrence.closed:
            found.append(occurrence.instant)
    return (tuple(found[:COUNTED]), walked <= COUNTED) if found else None
