"""Lock a row, check its transition against `states.TRANSITIONS`, write it. Only this module changes a `status`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError

from reportqueue import bounds, database, events, failures, locks, plans, unmeasured
from reportqueue.conf import conf
from reportqueue.errors import (
    HeldByAnother,
    InvalidTransition,
    LeaseLost,
    ReportQueueError,
    RowBusy,
    RowNotFound,
)
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.queue import turns
from reportqueue.queue.fetching import cursor_for_rows, fetch_locked, objects_of
from reportqueue.signals import Transition, announce, announce_all
from reportqueue.states import FINAL, TRANSITIONS, Outcome, Status, Verb

logger = logging.getLogger("reportqueue")
T = TypeVar("T")
K = TypeVar("K")
Results = dict[int, T | ReportQueueError | ValidationError]
"""The results of a verb for several rows, by the row's id: each row's own result, or why it was refused."""
BATCH_SECONDS = 0.5
"""How long a call for several rows waits for one of them: the others' leases go on running out."""
SINGLE_SECONDS = 0.02
"""How long it waits for each row after that, when it tries them one by one."""
_NO_HOLDER: dict[str, Any] = {
    "claim_id": None,
    "claimed_by": "",
    "api_user": "",
    "claimed_at": None,
    "dispatched_at": None,
    "started_at": None,
    "lease_token": None,
    "lease_expires_at": None,
    "cancel_requested": False,
}
"""Values that clear the claim, the run and the lease when a row returns to `queued`."""


@dataclass(frozen=True)
class Heartbeat:
    """A renewed lease."""

    lease_expires_at: datetime
    """Until then the holder need not send another heartbeat."""
    cancel_requested: bool
    """Whether a person has asked the run to stop."""


@contextmanager
def locked(pk: int) -> Iterator[tuple[ReportQueue, datetime]]:
    """The row, locked until the end of the transaction, and the database's time after it was locked."""
    results: Results[ReportQueue] = {}
    try:
        with locked_many([pk], results) as (rows, now):
            for row in rows:
                yield row, now
                return
            single(results)
    except (DataError, IntegrityError) as error:
        raise refused_by_database(pk, error) from error


@contextmanager
def locked_many(pks: Collection[int], results: Results[T]) -> Iterator[tuple[list[ReportQueue], datetime]]:
    """The rows, locked, and the database's time. A row that is missing or held gets its error in `results` instead.

    Every transaction that waits for more than one row locks them in the order of their ids, so that none waits in a
    circle. If one lock cannot be had in time, all are given up, and the rows that are free are locked without waiting.
    """
    for pk in pks:
        if not bounds.is_whole(pk):
            raise ValidationError({"pk": f"The id of a row must be a whole number; it is {pk!r:.100}."})
    named = ReportQueue.objects.filter(pk__in=pks).order_by("pk")
    with ExitStack() as transaction:
        try:
            seconds = BATCH_SECONDS if len(pks) > 1 else None
            rows = transaction.enter_context(_taken(named.select_for_update(), seconds))
        except RowBusy:
            rows = transaction.enter_context(_taken(named.select_for_update(skip_locked=True), BATCH_SECONDS))
        if missing := set(pks) - {row.pk for row in rows}:
            held = set(ReportQueue.objects.filter(pk__in=missing).values_list("pk", flat=True))
            for pk in missing:
                results[pk] = RowBusy() if pk in held else RowNotFound(f"There is no report {pk} in the queue.")
        yield rows, max((row.now for row in rows), default=bounds.EARLIEST)


@contextmanager
def _taken(rows: Any, seconds: float | None) -> Iterator[list[Any]]:
    with locks.bounded(seconds):
        yield fetch_locked(rows)


def as_batch(rows: Mapping[int, K], change: Callable[[Mapping[int, K]], Results[T]]) -> Results[T]:
    """Apply `change` to all rows at once; if one row prevents that, apply it to each row alone.

    A row prevents it if another transaction holds a lock that its change needs, or if the database refuses its change.
    Both show only when the row is written.
    """
    try:
        return change(rows)
    except (RowBusy, DataError, IntegrityError) as error:
        results: Results[T] = {}
        for pk, known in rows.items():
            results |= _alone(pk, known, change) if len(rows) > 1 else {pk: _refusal_for(pk, error)}
        return results


def _alone(pk: int, known: K, change: Callable[[Mapping[int, K]], Results[T]]) -> Results[T]:
    try:
        with locks.bounded(SINGLE_SECONDS):
            return change({pk: known})
    except (RowBusy, DataError, IntegrityError) as error:
        return {pk: _refusal_for(pk, error)}


def _refusal_for(pk: int, error: Exception) -> ReportQueueError:
    return error if isinstance(error, RowBusy) else refused_by_database(pk, error)


def refused_by_database(pk: int, error: Exception) -> InvalidTransition:
    """Log that the database refuses a change of the row, and return the error for its caller."""
    said = str(error).strip().splitlines()[0]
    logger.error("The database refuses a change of report %s: %s", pk, said)
    return InvalidTransition(f"The database refuses this for report {pk}: {said}.")


def single(results: Results[T]) -> T:
    """The result for the only row of a call for several rows. Raises its error."""
    (answer,) = results.values()
    if isinstance(answer, ReportQueueError | ValidationError):
        raise answer
    return answer


def transition_all(
    rows: Sequence[ReportQueue],
    verb: Verb,
    to: Status,
    each: Mapping[str, Mapping[int, Any]] | None = None,
    **changes: Any,
) -> None:
    """Set a new status on locked rows that share one status; their claim fields stay."""
    before = rows[0].status
    _require_allowed(verb, before, to)
    heard = write_all(rows, each, status=to, **changes)
    announce(verb, rows, before)
    if heard:
        events.write_rows(events.OF_STATUS[to], [row.pk for row in rows])


def transition(row: ReportQueue, verb: Verb, to: Status, **changes: Any) -> ReportQueue:
    """Set a new status on a locked row."""
    before, consumer = row.status, row.claimed_by
    _require_allowed(verb, before, to)
    heard = write_all([row], status=to, **changes)
    announce(verb, [row], before, claimed_by=consumer)
    if heard:
        events.write_rows(events.OF_STATUS[to], [row.pk])
    return row


def transition_matching(
    statement: str, values: Mapping[str, Any], verb: Verb, before: Status, to: Status
) -> list[ReportQueue]:
    """Run an UPDATE that moves rows from one status to another and returns their `COLUMNS`; return them."""
    _require_allowed(verb, before, to)
    with cursor_for_rows(plans_last=True) as cursor:
        cursor.execute(statement, values)
        rows = objects_of(cursor)
    announce(verb, rows, before)
    return rows


COLUMNS = ", ".join(str(field.column) for field in ReportQueue._meta.concrete_fields)
"""What the UPDATE of `transition_matching` returns: a whole row."""
ANNOUNCED = "id, report_id, modifier_id, generation, attempt, run_id, claimed_by"
"""What the UPDATE of `transition_unseen` returns."""


def transition_unseen(statement: str, values: Mapping[str, Any], verb: Verb, before: Status, to: Status) -> None:
    """Run an UPDATE that moves rows from one status to another, and returns their columns `ANNOUNCED`."""
    _require_allowed(verb, before, to)
    with plans.cursor() as cursor:
        cursor.execute(statement, values)
        moved = cursor.fetchall()
    announce_all(
        [
            Transition(verb, pk, report_id, modifier_id, before, to, generation, attempt, run_id, claimed_by)
            for pk, report_id, modifier_id, generation, attempt, run_id, claimed_by in moved
        ]
    )


def _require_allowed(verb: Verb, before: str, to: Status) -> None:
    if to not in TRANSITIONS[verb].get(Status(before), ()):
        raise InvalidTransition(f"{verb} cannot bring a {before} row to {to}.", current_status=before)


def write_all(rows: Sequence[ReportQueue], each: Mapping[str, Mapping[int, Any]] | None = None, **changes: Any) -> bool:
    """Write the same changes to all of the locked rows, in the table and in memory.

    Returns whether anybody subscribes to the event of the new status. `each` is `{field: {pk: value}}`, for fields
    whose values differ; it has a value for every row. A row that fails gets the fingerprint of its error, and loses it
    when it leaves `failed`.
    """
    own, connection = dict(each or {}), database.connection()
    if "status" in changes:
        if rows[0].status in FINAL and changes["status"] not in FINAL:
            unmeasured.keep([row.pk for row in rows])
        if changes["status"] == Status.FAILED:
            own["fingerprint"] = _fingerprints(rows, own.get("error", {}), changes.get("error"))
        elif any(row.fingerprint for row in rows):
            changes["fingerprint"] = ""
    values = [value for name, one in changes.items() for value in _stored(name, [one], connection)]
    arrays = [_stored(name, [by_row[row.pk] for row in rows], connection) for name, by_row in own.items()]
    returned = events.heard(changes["status"]) if "status" in changes else ""
    with connection.cursor() as cursor:
        cursor.execute(_update(tuple(changes), tuple(own), returned), [*values, [row.pk for row in rows], *arrays])
        heard = bool(returned) and any(first for (first,) in cursor.fetchmany(1))
    for row in rows:
        for name, value in changes.items():
            setattr(row, name, value)
        for name, by_row in own.items():
            setattr(row, name, by_row[row.pk])
        row.processed = row.status in FINAL
    return heard


def _fingerprints(rows: Sequence[ReportQueue], own: Mapping[int, str], shared: str | None) -> dict[int, str]:
    """By the row's id: of the error that is written, for each row or for all, or else of the one that it has."""
    errors = {row.pk: own.get(row.pk, row.error if shared is None else shared) for row in rows}
    known = {error: failures.fingerprint(error) for error in set(errors.values())}
    return {pk: known[error] for pk, error in errors.items()}


@cache
def _update(changed: tuple[str, ...], own: tuple[str, ...], returned: str) -> str:
    """The UPDATE of `write_all`: one value for all rows of each `changed` field, an array of values for each of `own`.

    It returns the expression `returned`, if there is one.

    A CASE with a branch for each row, as the ORM writes it, costs more than all the rest of a transition.
    """
    sets = [f"{_field(name).column} = %s" for name in changed]
    sets += [f"{_field(name).column} = own.{_field(name).column}" for name in own]
    columns = ", ".join(["id", *(_field(name).column for name in own)])
    arrays = ", ".join(["%s::bigint[]", *(f"%s::{_field(name).db_type(database.connection())}[]" for name in own)])
    table = ReportQueue._meta.db_table
    told = f" RETURNING {returned}" if returned else ""
    return (
        f"UPDATE {table} SET {', '.join(sets)} FROM unnest({arrays}) AS own ({columns}) WHERE {table}.id = own.id{told}"  # noqa: S608  # names of columns
    )


def _field(name: str) -> Any:
    return ReportQueue._meta.get_field(name)


def _stored(name: str, values: Sequence[Any], connection: Any) -> list[Any]:
    """Values of a field for the database; None is NULL, also for a JSON field."""
    field = _field(name)
    return [None if value is None else field.get_db_prep_save(value, connection) for value in values]


def return_to_queue(row: ReportQueue, verb: Verb, available_at: datetime, **changes: Any) -> ReportQueue:
    return transition(row, verb, Status.QUEUED, **_NO_HOLDER, available_at=available_at, **changes)


def return_all_to_queue(rows: Sequence[ReportQueue], verb: Verb, available_at: datetime, **changes: Any) -> None:
    """Queue locked rows that share one status and one consumer."""
    before, consumer = rows[0].status, rows[0].claimed_by
    _require_allowed(verb, before, Status.QUEUED)
    write_all(rows, status=Status.QUEUED, **_NO_HOLDER, available_at=available_at, **changes)
    announce(verb, rows, before, claimed_by=consumer)


def finish(row: ReportQueue, verb: Verb, to: Status, now: datetime, **changes: Any) -> ReportQueue:
    finish_all([row], verb, to, now, **changes)
    return row


def finish_all(
    rows: Sequence[ReportQueue],
    verb: Verb,
    to: Status,
    now: datetime,
    each: Mapping[str, Mapping[int, Any]] | None = None,
    **changes: Any,
) -> None:
    """Give locked rows of one status a final one, and pass their turns on."""
    transition_all(
        rows,
        verb,
        to,
        each,
        finished_at=now,
        waiting=False,
        lease_token=None,
        lease_expires_at=None,
        cancel_requested=False,
        **changes,
    )
    turns.pass_on(row.concurrency_key for row in rows if row.concurrency_key is not None)


def after_failed_attempt(
    row: ReportQueue,
    verb: Verb,
    now: datetime,
    delay: timedelta,
    error: str,
    *,
    retryable: bool = True,
    **changes: Any,
) -> ReportQueue:
    if row.cancel_requested:
        return finish(row, verb, Status.CANCELLED, now, error=error, **changes)
    if not retryable or row.attempt >= row.max_attempts:
        return finish(row, verb, Status.FAILED, now, error=error, **changes)
    return return_to_queue(row, verb, now + delay, error=error, **changes)


def end_attempt(row: ReportQueue, outcome: Outcome, now: datetime, error: str = "") -> None:
    """End the row's one open attempt."""
    end_attempts([row], outcome, now, error)


def end_attempts(rows: Sequence[ReportQueue], outcome: Outcome, now: datetime, error: str = "") -> None:
    """End each row's one open attempt."""
    open_ones = ReportAttempt.objects.filter(queue__in=[row.pk for row in rows], outcome="")
    open_ones.update(outcome=outcome, finished_at=now, error=error)


def owns(row: ReportQueue, lease_token: UUID) -> bool:
    """Whether the token is that of the row's running attempt."""
    return row.status == Status.RUNNING and row.lease_token == lease_token


def held_by_another(row: ReportQueue, user: str) -> HeldByAnother | None:
    """The refusal if the row was handed out to another API user than `user`. Code of the project has no user."""
    return HeldByAnother(current_status=row.status) if user and row.api_user not in ("", user) else None


def refuse_another(row: ReportQueue, user: str) -> None:
    if (refusal := held_by_another(row, user)) is not None:
        raise refusal


def require_owner(row: ReportQueue, lease_token: UUID) -> None:
    if not owns(row, lease_token):
        raise LeaseLost(current_status=row.status)


def already_ended(row: ReportQueue, lease_token: UUID, outcome: Outcome) -> bool:
    """Whether this owner has already ended its attempt in this way: its answer was lost, and it repeats the call."""
    return row.lease_token != lease_token and row.pk in already_ended_many({row.pk: lease_token}, outcome)


def already_ended_many(tokens: Mapping[int, UUID], outcome: Outcome) -> set[int]:
    """The ids of the rows whose attempt under this token has already ended in this way."""
    ended = ReportAttempt.objects.filter(lease_token__in=tokens.values(), outcome=outcome)
    return {pk for pk, token in ended.values_list("queue_id", "lease_token") if tokens.get(pk) == token}


def invalid(row: ReportQueue, done: str) -> InvalidTransition:
    return InvalidTransition(f"A {row.status} report cannot be {done}.", current_status=row.status)


def one_more(count: int) -> int:
    """The next value of a row's counter, which stays at its column's bound."""
    return min(count + 1, bounds.MAX_SMALL_COUNT)


def lease_of(name: str, seconds: int | None, otherwise: int) -> timedelta:
    """The lease for which the argument `name` asks, or without it a lease of `otherwise` seconds."""
    if seconds is None:
        return timedelta(seconds=otherwise)
    bounds.validate_numbers(**{name: seconds})
    return timedelta(seconds=seconds)


def require_generations(generations: Mapping[int, int]) -> None:
    """Raise `ValidationError` if one of them is no number of a generation."""
    for generation in generations.values():
        bounds.validate_numbers(generation=generation)


def backoff(times: int) -> timedelta:
    """The delay after the `times`-th failure in a row: doubling, bounded, with jitter."""
    settings = conf()
    seconds = min(settings.retry_backoff_seconds * 2.0 ** min(times - 1, 40), float(settings.retry_backoff_max_seconds))
    return timedelta(seconds=seconds * (1 + settings.retry_jitter * random.random()))  # noqa: S311
