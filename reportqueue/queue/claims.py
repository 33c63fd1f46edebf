"""What a consumer does: claim rows, acknowledge them, give them back, or report that their run never started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.db import DataError

from reportqueue import bounds, locks
from reportqueue.conf import conf
from reportqueue.errors import InvalidTransition, LeaseLost
from reportqueue.models import ReportQueue
from reportqueue.models.report import ROUTE, validate_route
from reportqueue.queue import claim_sql
from reportqueue.queue.choice import choose, choose_if_free
from reportqueue.queue.claim_sql import Claimer
from reportqueue.queue.expiry import skip_too_late
from reportqueue.queue.fetching import fetch_locked
from reportqueue.queue.rescue import rescue_expired
from reportqueue.queue.transitions import (
    Heartbeat,
    Results,
    as_batch,
    backoff,
    finish,
    held_by_another,
    invalid,
    lease_of,
    locked,
    locked_many,
    one_more,
    refuse_another,
    require_generations,
    return_to_queue,
    single,
    write_all,
)
from reportqueue.states import FINAL, TRANSITIONS, WITH_CONSUMER, Status, Verb

LOCKED_PAUSES = (0.005, 0.02, 0.05)
"""Seconds before an acknowledgement tries locked rows again. It waits for no lock: it holds locks itself."""
USED_UP_BATCH = 100
"""Rows at the end of their generations that a claim fails before it tries again."""


@dataclass(frozen=True)
class Claim:
    """Rows handed to a consumer under one id, which it acknowledges with its next call."""

    claim_id: UUID | None
    """None if nothing was due."""
    rows: list[ReportQueue]
    in_flight: int | None = None
    """How many unfinished rows the consumer has, including these; counted only if the call bounds them."""
    unstarted: int | None = None
    """How many of them no run has started."""
    has_room: bool = True
    """Whether its bounds let the consumer have more rows: if not, it is no use to wait for one."""
    limited: bool = False
    """Whether due rows were left because of a limit or a pause. No notification tells when that ends."""


def claim(
    consumer: str,
    *,
    user: str = "",
    ack: UUID | None = None,
    limit: int = 25,
    lease_seconds: int | None = None,
    dispatch_lease_seconds: int | None = None,
    max_in_flight: int | None = None,
    max_unstarted: int | None = None,
    routes: Sequence[str] | None = None,
) -> Claim:
    """Hand due rows to `consumer`, a stable name. With `user`, the key of an API user, it is that user's consumer.

    `ack` is the id of the last claim that the consumer has safely stored: its rows become dispatched. If the consumer
    has a claim that it did not acknowledge, it gets that claim again, with the same id, the same run keys and a new
    lease. Otherwise it gets up to `limit` due rows of the `routes`, of all routes without them. With them it has at
    most `max_in_flight` unfinished rows, of which no run has started at most `max_unstarted`. If more rows are due,
    `choice` says which it gets. Raises `ValidationError` naming the argument.
    """
    most = {"max_in_flight": max_in_flight, "max_unstarted": max_unstarted}
    given = {name: number for name, number in most.items() if number is not None}
    bounds.validate_numbers(limit=limit, **given)
    lease = lease_of("lease_seconds", lease_seconds, conf().claim_lease_seconds)
    dispatch_lease = lease_of("dispatch_lease_seconds", dispatch_lease_seconds, conf().dispatch_lease_seconds)
    wanted = _Wanted(limit, max_in_flight, max_unstarted, routes_of(routes))
    # One call of a consumer at a time: an earlier process of that name may still be running.
    own = f"reportqueue:{user}:{consumer}"
    found_none = False
    while True:
        try:
            with locks.bounded(lock=own, ordered=True):
                view = _acknowledge(consumer, user, ack, dispatch_lease, wanted)
                if not view.expired:
                    return _claim(consumer, user, wanted, lease, view)
            # In a transaction of its own: a second update of a row in one transaction makes PostgreSQL recheck its
            # foreign key, and the claim would wait for an edit of a rescued row's schedule.
            rescue_expired()
            skip_too_late()
            with locks.bounded(lock=own, ordered=True):
                view = wanted.look(consumer, user, None)
                return _claim(consumer, user, wanted, lease, view)
        except DataError:
            # A row at the end of its generations must not block the other rows. If none is left, another claim has
            # ended it meanwhile: try again, once.
            if not _end_used_up():
                if found_none:
                    raise
                found_none = True


def routes_of(routes: Any) -> list[str] | None:
    """The routes that a claim names, each once; None for all. Raises `ValidationError`."""
    if routes is None:
        return None
    if isinstance(routes, str) or not isinstance(routes, list | tuple) or not 0 < len(routes) <= bounds.MAX_ROUTES:
        raise ValidationError({"routes": f"Must be a list of 1 to {bounds.MAX_ROUTES} routes; leave it out for all."})
    for route in routes:
        if not isinstance(route, str) or not ROUTE.fullmatch(route):
            raise ValidationError({"routes": f"{str(route)[:100]!r} is no route. {validate_route.message}"})
    return sorted(set(routes))


@dataclass(frozen=True)
class _Wanted:
    """What a claim asks for: how many rows at most, and of which routes."""

    limit: int
    max_in_flight: int | None
    max_unstarted: int | None
    routes: list[str] | None

    def look(self, consumer: str, user: str, ack: UUID | None) -> claim_sql.View:
        """What the consumer has, and what is due for it."""
        return claim_sql.look(consumer, user, ack, count=self.counts, routes=self.routes)

    @property
    def counts(self) -> bool:
        """Whether it depends on the rows that the consumer has."""
        return self.max_in_flight is not None or self.max_unstarted is not None

    def beside(self, view: claim_sql.View) -> int:
        """The rows to hand out; may be negative."""
        bounded = ((self.max_in_flight, view.in_flight), (self.max_unstarted, view.unstarted))
        return min([self.limit, *(most - number for most, number in bounded if most is not None)])

    def claim(
        self,
        claim_id: UUID | None,
        rows: list[ReportQueue],
        view: claim_sql.View,
        *,
        new: int = 0,
        limited: bool = False,
    ) -> Claim:
        """The claim, with the counts if it has bounds; `new` rows have come to what the consumer had."""
        in_flight, unstarted = (view.in_flight + new, view.unstarted + new) if self.counts else (None, None)
        return Claim(claim_id, rows, in_flight, unstarted, has_room=self.beside(view) > new, limited=limited)


def _acknowledge(consumer: str, user: str, claim_id: UUID | None, lease: timedelta, wanted: _Wanted) -> claim_sql.View:
    """Mark the claim's rows as dispatched, if there is one; try again shortly for rows that another transaction has
    locked. Returns what the consumer has then.

    A claim of another consumer locks rows that it has looked at and that are no longer queued, for as long as it takes:
    some milliseconds. Left out of the acknowledgement, they would be handed out again under the same run key.
    """
    if claim_id is not None:
        claim_sql.acknowledge(consumer, user, claim_id, lease)
    view = wanted.look(consumer, user, claim_id)
    for pause in LOCKED_PAUSES:
        if claim_id is None or not view.left:
            break
        time.sleep(pause)
        claim_sql.acknowledge(consumer, user, claim_id, lease)
        view = wanted.look(consumer, user, claim_id)
    return view


def _claim(consumer: str, user: str, wanted: _Wanted, lease: timedelta, view: claim_sql.View) -> Claim:
    """The consumer's open claim, or a new one.

    Rows that another transaction has locked are left out. A row that was left out of its claim's acknowledgement stays
    claimed under its old claim id. Its run may start it all the same. If it does not, the consumer gets the row again
    once it has no other open claim, or the row is queued again when its lease runs out.
    """
    if view.held and (held := _lock_held(consumer, user)):
        # One claim at a time, since one id acknowledges it. Rows of another claim follow after that.
        held = [row for row in held if row.claim_id == held[0].claim_id]
        write_all(held, lease_expires_at=held[0].now + lease)
        return wanted.claim(held[0].claim_id, _in_claim_order(held), view)
    limit = wanted.beside(view)
    if limit < 1 or view.nothing:
        return wanted.claim(None, [], view)
    claimer = Claimer(consumer, user, uuid4(), lease)
    routes, limited, choice = wanted.routes, False, None
    route = routes[0] if routes else None
    if view.limits or (routes is not None and len(routes) > 1):
        choice = choose(limit, routes, limited=view.limits)
    elif not view.alike and claim_sql.is_more_due(limit, route):
        only = None if view.route is None or view.priority is None else (view.route, view.priority)
        choice = choose_if_free(limit, routes, only)
    if choice is not None:
        rows, limited = _hand_out_chosen(claimer, choice.rows), choice.limited
        if choice.rows and not rows:
            choice = choose(limit, routes, limited=view.limits, locking=True)
            rows, limited = _hand_out_chosen(claimer, choice.rows), choice.limited
    else:
        rows = _hand_out_first(claimer, limit, route)
    claim_id = claimer.claim_id if rows else None
    return wanted.claim(claim_id, _in_claim_order(rows), view, new=len(rows), limited=limited)


def _lock_held(consumer: str, user: str) -> list[Any]:
    """The rows that the consumer has not acknowledged, the oldest first, but for locked ones."""
    mine = ReportQueue.objects.unacknowledged_by(consumer, user).order_by("claimed_at", "pk")
    return fetch_locked(mine.select_for_update(skip_locked=True))


def _hand_out_first(claimer: Claimer, limit: int, route: str | None) -> list[ReportQueue]:
    """Hand out the first due rows: at most `limit`, or fewer once they have `MAX_ANSWER_BYTES`."""
    rows: list[ReportQueue] = []
    size = 0
    while len(rows) < limit and size < bounds.MAX_ANSWER_BYTES:
        wanted = min(limit - len(rows), bounds.ROWS_AT_ONCE)
        some = claim_sql.hand_out_first(claimer, wanted, route)
        rows += some
        if len(some) < wanted:
            break
        if len(rows) < limit:
            size += _size(some)
    return rows


def _hand_out_chosen(claimer: Claimer, chosen: Sequence[int]) -> list[ReportQueue]:
    """Hand out the chosen rows, or fewer once they have `MAX_ANSWER_BYTES`."""
    rows: list[ReportQueue] = []
    size = 0
    for place in range(0, len(chosen), bounds.ROWS_AT_ONCE):
        if size >= bounds.MAX_ANSWER_BYTES:
            break
        some = claim_sql.hand_out_chosen(claimer, chosen[place : place + bounds.ROWS_AT_ONCE])
        rows += some
        if place + bounds.ROWS_AT_ONCE < len(chosen):
            size += _size(some)
    return rows


def _size(rows: Sequence[ReportQueue]) -> int:
    return sum(bounds.json_size(row.params, row.error) for row in rows)


def _end_used_up() -> bool:
    """Fail the rows that cannot be handed out once more; whether there were any.

    They cannot reuse a generation: Dagster would drop their run, as its run key is known.
    """
    used_up = ReportQueue.objects.claimable().filter(generation__gte=bounds.MAX_COUNT)
    with locks.bounded():
        rows = fetch_locked(used_up.select_for_update(skip_locked=True)[:USED_UP_BATCH])
        for row in rows:
            error = f"Handed out {bounds.MAX_COUNT:,} times, the most that a report can be."
            finish(row, Verb.CLAIM, Status.FAILED, row.now, error=error)
    return bool(rows)


def _in_claim_order(rows: list[ReportQueue]) -> list[ReportQueue]:
    return sorted(rows, key=lambda row: (-row.priority, row.available_at, row.pk))


def release_claimed(pk: int, *, claim_id: UUID, delay_seconds: int = 0, reason: str = "") -> ReportQueue:
    """Give a claimed or dispatched row back, to be offered again after `delay_seconds`; no attempt is used.

    This counts as a launch that never started: a row that is given back repeatedly waits longer each time. Raises
    `LeaseLost` if the row is not of this claim, `InvalidTransition` if it has started or is final.
    """
    bounds.validate_numbers(delay_seconds=delay_seconds)
    with locked(pk) as (row, now):
        if row.status not in WITH_CONSUMER:
            raise invalid(row, "released by its claim")
        if row.claim_id != claim_id:
            raise LeaseLost("The row belongs to another claim.", current_status=row.status)
        delay = timedelta(seconds=delay_seconds)
        if row.launch_failures:
            delay = max(delay, backoff(row.launch_failures))
        failures = one_more(row.launch_failures)
        return return_to_queue(row, Verb.RELEASE, now + delay, launch_failures=failures, error=reason)


def renew_dispatch(
    pk: int, *, generation: int, run_id: str, user: str = "", lease_seconds: int | None = None
) -> Heartbeat:
    """Renew the lease of a row whose run `run_id` exists but waits to start, for instance in a long run queue.

    Raises `InvalidTransition` if the row has started or is final, `LeaseLost` if it was handed out again since,
    `HeldByAnother` if that was to another API user.
    """
    return single(renew_dispatch_many({pk: generation}, run_id=run_id, user=user, lease_seconds=lease_seconds))


def renew_dispatch_many(
    generations: Mapping[int, int], *, run_id: str, user: str = "", lease_seconds: int | None = None
) -> Results[Heartbeat]:
    """Renew the leases of several rows of one waiting run, given with their generations: each as `renew_dispatch`."""
    require_generations(generations)
    lease = lease_of("lease_seconds", lease_seconds, conf().dispatch_lease_seconds)
    return as_batch(generations, partial(_renew_dispatch, run_id=run_id, user=user, lease=lease))


def _renew_dispatch(generations: Mapping[int, int], *, run_id: str, user: str, lease: timedelta) -> Results[Heartbeat]:
    results: Results[Heartbeat] = {}
    with locked_many(generations, results) as (rows, now):
        waiting = []
        for row in rows:
            if row.generation != (generation := generations[row.pk]):
                text = f"Run {run_id} is of generation {generation}; the row is at {row.generation}."
                results[row.pk] = LeaseLost(text)
            elif row.status not in WITH_CONSUMER:
                results[row.pk] = invalid(row, f"waiting for run {run_id}")
            elif (refusal := held_by_another(row, user)) is not None:
                results[row.pk] = refusal
            else:
                waiting.append(row)
                results[row.pk] = Heartbeat(now + lease, cancel_requested=False)
        if waiting:
            write_all(waiting, lease_expires_at=now + lease)
    return results


def mark_processed(pk: int, *, user: str = "") -> ReportQueue:
    """Record that a consumer which polls has launched the row's run: succeeded, as far as the queue can know.

    A row that has ended already is returned as it is. The launch counts as a generation, so that a requeued row is
    launched under a new run key. Raises `InvalidTransition` for a row that a run owns, `HeldByAnother` for one that
    another API user has claimed.
    """
    with locked(pk) as (row, now):
        if row.status in FINAL:
            return row
        if row.status not in TRANSITIONS[Verb.MARK_PROCESSED]:
            raise invalid(row, "marked as processed")
        refuse_another(row, user)
        generation = min(row.generation + (row.status == Status.QUEUED), bounds.MAX_COUNT)
        # Use one UPDATE: a second update of the row in this transaction makes PostgreSQL recheck its foreign key and
        # wait for a lock on the schedule.
        return finish(row, Verb.MARK_PROCESSED, Status.SUCCEEDED, now, error="", generation=generation)


def _failed_unstarted(row: ReportQueue) -> bool:
    """Whether `fail_launch` has ended the row: a start sets the counter to 0."""
    return row.status == Status.FAILED and row.unstarted_runs > 0


def fail_launch(
    pk: int, *, generation: int, run_id: str, error: str, counts: bool = True, user: str = ""
) -> ReportQueue:
    """Report a run that ended without ever starting its row: the row is queued again, later each time.

    No attempt is used. But a run that fails each time has a standing reason: after `MAX_UNSTARTED_RUNS` of them in a
    row, the row fails. `counts` is False if no run has failed: Dagster has none, or a person cancelled it. A repeat, or
    a report about an older generation, changes nothing. Raises `InvalidTransition` if the row is running or final, or
    if the generation was never handed out; `HeldByAnother` if another API user has it.
    """
    bounds.validate_numbers(generation=generation)
    with locked(pk) as (row, now):
        if generation > row.generation:
            raise InvalidTransition(
                f"Generation {generation} was never handed out; the row is at {row.generation}.",
                current_status=row.status,
            )
        if generation < row.generation or row.status == Status.QUEUED or _failed_unstarted(row):
            return row
        if row.status not in WITH_CONSUMER:
            raise invalid(row, "reported as never started")
        refuse_another(row, user)
        failures = one_more(row.launch_failures)
        unstarted = one_more(row.unstarted_runs) if counts else row.unstarted_runs
        counted = {"launch_failures": failures, "unstarted_runs": unstarted}
        error = f"Run {run_id} ended without starting: {error}"
        if counts and unstarted >= conf().max_unstarted_runs:
            error += (
                f"\n{unstarted:,} runs in a row have ended without starting this report (MAX_UNSTARTED_RUNS): it has "
                "failed, and no attempt was used. Remove the reason, then requeue the report."
            )
            return finish(row, Verb.FAIL, Status.FAILED, now, error=bounds.last_bytes(error), **counted)
        return return_to_queue(row, Verb.FAIL, now + backoff(failures), error=bounds.last_bytes(error), **counted)
