"""What a run does: start its row, send heartbeats, end its attempt. All but the start need the lease token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError

from reportqueue import bounds, catalogue, database
from reportqueue.conf import conf
from reportqueue.errors import InvalidTransition, LeaseLost, ReportQueueError, RowErased
from reportqueue.models import Report, ReportAttempt, ReportQueue
from reportqueue.queue import expiry, turns
from reportqueue.queue.transitions import (
    Heartbeat,
    Results,
    after_failed_attempt,
    already_ended,
    already_ended_many,
    as_batch,
    backoff,
    end_attempt,
    end_attempts,
    finish,
    finish_all,
    held_by_another,
    invalid,
    lease_of,
    locked,
    locked_many,
    one_more,
    owns,
    require_generations,
    require_owner,
    return_to_queue,
    single,
    transition_all,
    write_all,
)
from reportqueue.states import FINAL, TRANSITIONS, Outcome, Status, Verb


def start(
    pk: int,
    *,
    generation: int,
    run_id: str,
    parent_run_id: str = "",
    worker: str = "",
    user: str = "",
    lease_seconds: int | None = None,
) -> ReportQueue:
    """Make `run_id` the row's owner: the row is running, with a `lease_token` for every later call of the run.

    The first run that starts the row wins, of whatever generation. A repeat by the same run gets the same token and a
    new lease, unless it names another `worker` than before. A final row starts only for a re-execution by a person:
    `parent_run_id` is the row's last run, and its attempts are counted afresh. If its schedule does not allow overlaps,
    a row starts only while no other report of the schedule is unfinished. Raises `InvalidTransition` for every other
    run, which must end without work; `RowErased` if the row's data were erased; `HeldByAnother` if the row was handed
    out to another API user than `user`, the run's.
    """
    return single(
        start_many(
            {pk: generation},
            run_id=run_id,
            parent_run_id=parent_run_id,
            worker=worker,
            user=user,
            lease_seconds=lease_seconds,
        )
    )


def start_many(
    generations: Mapping[int, int],
    *,
    run_id: str,
    parent_run_id: str = "",
    worker: str = "",
    user: str = "",
    lease_seconds: int | None = None,
) -> Results[ReportQueue]:
    """Start several rows, given with their generations, each as `start` does."""
    require_generations(generations)
    lease = _asked(lease_seconds)
    run = _Run(run_id, parent_run_id, worker, user, lease)
    return as_batch(generations, partial(_start, run=run))


@dataclass(frozen=True)
class _Run:
    """The run that starts rows."""

    run_id: str
    parent_run_id: str
    worker: str
    user: str
    lease: timedelta | None
    """None: that of each row's report."""


def _start(generations: Mapping[int, int], *, run: _Run) -> Results[ReportQueue]:
    results: Results[ReportQueue] = {}
    re_executed = generations if run.parent_run_id else {}
    with turns.entry(re_executed) as entry, locked_many(generations, results) as (rows, now):
        mine: list[ReportQueue] = []
        others: list[ReportQueue] = []
        for row in rows:
            again = row.status == Status.RUNNING and row.run_id == run.run_id and held_by_another(row, run.user) is None
            (mine if again else others).append(row)
        too_late = [row for row in others if _is_too_late(row, now)]
        for some in _by_status(too_late):
            expiry.skip(some, now)
        results |= {row.pk: expiry.refusal(row) for row in too_late}
        others = [row for row in others if row not in too_late]
        elsewhere = _started_elsewhere(mine, run)
        if mine := [row for row in mine if row.pk not in elsewhere]:
            write_all(mine, {"lease_expires_at": _lease_ends(mine, now, run.lease)})
        refused = elsewhere | _refusals(others, generations, run)
        keys: dict[int, int | None] = {}
        for row in others:
            if row.pk not in refused and row.status in FINAL:
                key = entry.key(row)
                if entry.must_wait(row) or (key is not None and key in keys.values()):
                    refused[row.pk] = _out_of_turn(row)
                else:
                    keys[row.pk] = key
        new = [row for row in others if row.pk not in refused]
        tokens = {row.pk: uuid4() for row in new}
        _make_running(new, tokens, keys, run, now)
        _open_attempts(new, tokens, generations, run, now)
        results |= refused | {row.pk: row for row in (*mine, *new)}
    return results


def _is_too_late(row: ReportQueue, now: datetime) -> bool:
    """Whether the row has expired: it is skipped, and not run late."""
    return row.expires_at is not None and row.expires_at < now and row.status in TRANSITIONS[Verb.EXPIRE]


def _started_elsewhere(rows: Sequence[ReportQueue], run: _Run) -> dict[int, ReportQueueError]:
    """Which rows the run has started in another worker, which may still work: an engine can deliver a run twice."""
    if not rows or not run.worker:
        return {}
    attempts = ReportAttempt.objects.filter(queue__in=rows, run_id=run.run_id, outcome="")
    text = "Run {} runs in worker {}. This worker, {}, must end without work."
    return {
        pk: InvalidTransition(text.format(run.run_id, worker, run.worker), current_status=Status.RUNNING)
        for pk, worker in attempts.exclude(worker__in=["", run.worker]).values_list("queue_id", "worker")
    }


def _refusals(rows: Sequence[ReportQueue], generations: Mapping[int, int], run: _Run) -> dict[int, ReportQueueError]:
    """Why the run may not start some of the rows, by the row's id."""
    refused = {row.pk: why for row in rows if (why := _not_to_start(row, generations[row.pk], run)) is not None}
    if allowed := {row.pk: row for row in rows if row.pk not in refused}:
        attempts = ReportAttempt.objects.filter(queue__in=allowed, run_id=run.run_id)
        for pk in attempts.values_list("queue_id", flat=True):
            text = f"Run {run.run_id} has had its attempt."
            refused[pk] = InvalidTransition(text, current_status=allowed[pk].status)
    return refused


def _not_to_start(row: ReportQueue, generation: int, run: _Run) -> ReportQueueError | None:
    if generation > row.generation:
        text = f"Generation {generation} was never handed out; the row is at {row.generation}."
        return InvalidTransition(text, current_status=row.status)
    again = row.status in FINAL and bool(run.parent_run_id) and run.parent_run_id == row.run_id
    if (row.status == Status.RUNNING and row.run_id != run.run_id) or (row.status in FINAL and not again):
        return invalid(row, f"started by run {run.run_id}")
    if row.erased_at is not None:
        return RowErased()
    if (refusal := held_by_another(row, run.user)) is not None:
        return refusal
    return _out_of_turn(row) if row.waiting else None


def _out_of_turn(row: ReportQueue) -> InvalidTransition:
    text = "Another report of its schedule is unfinished, and the schedule does not allow overlaps."
    return InvalidTransition(text, current_status=row.status)


def _make_running(
    rows: Sequence[ReportQueue],
    tokens: Mapping[int, UUID],
    keys: Mapping[int, int | None],
    run: _Run,
    now: datetime,
) -> None:
    """Make the run the owner of locked rows, each with its lease token and one attempt more.

    `keys` are the concurrency keys of the final rows among them.
    """
    # At most `max_attempts`: that may have been lowered since the row was last tried.
    attempts = {row.pk: 1 if row.status in FINAL else min(row.attempt + 1, row.max_attempts) for row in rows}
    for some in _by_status(rows):
        again = some[0].status in FINAL
        transition_all(
            some,
            Verb.START,
            Status.RUNNING,
            {
                "lease_token": tokens,
                "lease_expires_at": _lease_ends(some, now, run.lease),
                "attempt": attempts,
                **({"concurrency_key": keys} if again else {}),
            },
            launch_failures=0,
            unstarted_runs=0,
            # What is measured as its wait begins now: before, nobody had asked for it.
            **({"releases": 0, "available_at": now} if again else {}),
            run_id=run.run_id,
            api_user=run.user,
            expires_at=None,
            started_at=now,
            finished_at=None,
            result=None,
        )


def _open_attempts(
    rows: Sequence[ReportQueue], tokens: Mapping[int, UUID], generations: Mapping[int, int], run: _Run, now: datetime
) -> None:
    """Insert the attempts of rows that have just started, in the order in which the call named the rows.

    The run makes its reports in that order. If it dies, the order of the attempts tells `rescue` which it had begun.
    """
    order = {pk: place for place, pk in enumerate(generations)}
    named = sorted(rows, key=lambda row: order[row.pk])
    with database.connection().cursor() as cursor:
        cursor.execute(
            _OPEN_ATTEMPTS,
            {
                "run_id": run.run_id,
                "parent_run_id": run.parent_run_id,
                "worker": run.worker,
                "now": now,
                "rows": [row.pk for row in named],
                "reports": [row.report_id for row in named],
                "generations": [generations[row.pk] for row in named],
                "attempts": [row.attempt for row in named],
                "tokens": [tokens[row.pk] for row in named],
            },
        )


# The ids follow the order of the SELECT. `bulk_create` would make an object of each row, and a placeholder of each
# value, which costs as much as the rest of a start.
_OPEN_ATTEMPTS = f"""
INSERT INTO {ReportAttempt._meta.db_table} (
    queue_id, report_id, generation, attempt, run_id, parent_run_id, worker, lease_token, started_at, outcome, progress,
    error
)
SELECT pk, (SELECT report_id FROM {Report._meta.db_table} WHERE report_id = report AND rate_limit IS NOT NULL),
    generation, attempt, %(run_id)s, %(parent_run_id)s, %(worker)s, token, %(now)s, '', '', ''
FROM unnest(
    %(rows)s::bigint[], %(reports)s::bigint[], %(generations)s::integer[], %(attempts)s::smallint[], %(tokens)s::uuid[]
) WITH ORDINALITY AS own (pk, report, generation, attempt, token, place)
ORDER BY place
"""  # noqa: S608  # names of tables


def _by_status(rows: Sequence[ReportQueue]) -> list[list[ReportQueue]]:
    found: dict[str, list[ReportQueue]] = {}
    for row in rows:
        found.setdefault(row.status, []).append(row)
    return list(found.values())


def heartbeat(
    pk: int, *, lease_token: UUID, lease_seconds: int | None = None, progress: str | None = None
) -> Heartbeat:
    """Renew the owner's lease. Raises `LeaseLost` if the row has another owner, or none: stop working on it."""
    shown = {} if progress is None else {pk: progress}
    return single(heartbeat_many({pk: lease_token}, progress=shown, lease_seconds=lease_seconds))


def heartbeat_many(
    tokens: Mapping[int, UUID], *, progress: Mapping[int, str] | None = None, lease_seconds: int | None = None
) -> Results[Heartbeat]:
    """Renew the leases of several rows, each as `heartbeat` does; `progress` has texts for the rows that report one."""
    return as_batch(tokens, partial(_renew, progress=progress or {}, lease=_asked(lease_seconds)))


def _asked(lease_seconds: int | None) -> timedelta | None:
    return None if lease_seconds is None else lease_of("lease_seconds", lease_seconds, lease_seconds)


def _lease_ends(rows: Sequence[ReportQueue], now: datetime, lease: timedelta | None) -> dict[int, datetime]:
    """By the row's id: after the lease for which the run asks, else that of its report, else that of the settings."""
    of_report = catalogue.leases({row.report_id for row in rows}) if lease is None else {}
    otherwise = timedelta(seconds=conf().run_lease_seconds) if lease is None else lease
    return {row.pk: now + of_report.get(row.report_id, otherwise) for row in rows}


def _renew(tokens: Mapping[int, UUID], *, progress: Mapping[int, str], lease: timedelta | None) -> Results[Heartbeat]:
    results: Results[Heartbeat] = {}
    with locked_many(tokens, results) as (rows, now):
        owned = [row for row in rows if owns(row, tokens[row.pk])]
        results |= {row.pk: LeaseLost(current_status=row.status) for row in rows}
        ends = _lease_ends(owned, now, lease)
        if owned:
            write_all(owned, {"lease_expires_at": ends})
        for row in owned:
            if (text := progress.get(row.pk)) is not None:
                row.attempts.filter(lease_token=tokens[row.pk]).update(progress=text)
            results[row.pk] = Heartbeat(ends[row.pk], row.cancel_requested)
    return results


def complete(pk: int, *, lease_token: UUID, result: Mapping[str, Any] | None = None) -> ReportQueue:
    """Finish a running row with its result. A repeat by the same owner returns the finished row.

    Raises `LeaseLost` if the row has another owner or was rescued, `ValidationError` for a result beyond its bounds.
    """
    return single(complete_many({pk: lease_token}, results={pk: result}))


def complete_many(
    tokens: Mapping[int, UUID], *, results: Mapping[int, Mapping[str, Any] | None]
) -> Results[ReportQueue]:
    """Finish several rows, given with their tokens, each as `complete` does."""
    return as_batch(tokens, partial(_complete, made=results))


def _complete(tokens: Mapping[int, UUID], *, made: Mapping[int, Mapping[str, Any] | None]) -> Results[ReportQueue]:
    results: Results[ReportQueue] = {}
    for pk in tokens:
        result = made.get(pk)
        if result is not None:
            try:
                bounds.validate_json_object(result)
            except ValidationError as error:
                results[pk] = ValidationError({"result": error.messages})
    with locked_many(tokens.keys() - results.keys(), results) as (rows, now):
        owned = [row for row in rows if owns(row, tokens[row.pk])]
        others = {row.pk: row for row in rows if not owns(row, tokens[row.pk])}
        again = already_ended_many({pk: tokens[pk] for pk in others}, Outcome.SUCCEEDED) if others else set()
        for pk, row in others.items():
            results[pk] = row if pk in again else LeaseLost(current_status=row.status)
        if owned:
            end_attempts(owned, Outcome.SUCCEEDED, now)
            own = {row.pk: made.get(row.pk) for row in owned}
            finish_all(owned, Verb.COMPLETE, Status.SUCCEEDED, now, {"result": own}, error="")
        results |= {row.pk: row for row in owned}
    return results


def fail(
    pk: int,
    *,
    lease_token: UUID,
    error: str,
    retryable: bool = True,
    retry_after_seconds: int | None = None,
) -> ReportQueue:
    """End a run's attempt with its error: the row is queued again after a growing delay, or fails.

    It fails when its attempts are used up, or if the error is not `retryable`. A row that was asked to cancel is
    cancelled. A repeat by the same owner returns the row. Raises `LeaseLost` if the row has another owner or was
    rescued.
    """
    if retry_after_seconds is not None:
        bounds.validate_numbers(retry_after_seconds=retry_after_seconds)
    error = bounds.last_bytes(error)
    with locked(pk) as (row, now):
        if already_ended(row, lease_token, Outcome.FAILED):
            return row
        require_owner(row, lease_token)
        end_attempt(row, Outcome.FAILED, now, error)
        delay = backoff(row.attempt) if retry_after_seconds is None else timedelta(seconds=retry_after_seconds)
        return after_failed_attempt(row, Verb.FAIL, now, delay, error, retryable=retryable)


def release(pk: int, *, lease_token: UUID, delay_seconds: int = 0, reason: str = "", begun: bool = True) -> ReportQueue:
    """Give a running row back: it is queued, or cancelled if that was asked for. No attempt is used.

    `begun` says whether the run had begun the report. If so, its next run makes it alone, each release after the first
    delays the row more, and each release after `MAX_RELEASES` uses an attempt: a report that interrupts its own run
    must come to an end. A repeat by the same owner returns the row. Raises `LeaseLost` if the row has another owner or
    was rescued.
    """
    bounds.validate_numbers(delay_seconds=delay_seconds)
    with locked(pk) as (row, now):
        if already_ended(row, lease_token, Outcome.RELEASED):
            return row
        require_owner(row, lease_token)
        end_attempt(row, Outcome.RELEASED, now, reason)
        if row.cancel_requested:
            return finish(row, Verb.RELEASE, Status.CANCELLED, now)
        delay = timedelta(seconds=delay_seconds)
        changes: dict[str, Any] = {"error": reason, "attempt": row.attempt - 1}
        if begun:
            if row.releases:
                delay = max(delay, backoff(row.releases))
            changes |= {"releases": one_more(row.releases), "alone": True}
            if row.releases >= conf().max_releases:
                changes["attempt"] = row.attempt
                changes["error"] = f"Its runs were interrupted {row.releases + 1} times. {reason}".strip()
                if row.attempt >= row.max_attempts:
                    return finish(row, Verb.RELEASE, Status.FAILED, now, **changes)
        return return_to_queue(row, Verb.RELEASE, now + delay, **changes)
