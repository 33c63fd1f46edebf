"""Enqueue one report or many; `firings` inserts the rows of schedules."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError

from reportqueue import audit, bounds, catalogue, database, locks, params_schema, tracing
from reportqueue.catalogue import Terms
from reportqueue.clock import database_now
from reportqueue.errors import IdempotencyKeyReused, RowBusy
from reportqueue.json_values import canonical
from reportqueue.models import ReportQueue
from reportqueue.schema_evaluation import Budget
from reportqueue.signals import announce
from reportqueue.states import Source, Verb

UNFINISHED = "unfinished"
"""The only value of `unique`."""
LOOKUPS = 20
"""How often a known key is looked up again after an insert found it taken. A caller's transaction of the isolation
REPEATABLE READ never sees it."""


class OutsideTransaction(UserWarning):
    """A report is enqueued in a transaction of another database than the queue's, and is not part of it."""

    def __init__(self, elsewhere: str, alias: str) -> None:
        super().__init__(
            f"A report is enqueued in a transaction of the database {elsewhere!r}, but the queue is in {alias!r}: if "
            "that rolls back, the report stays. Enqueue it after the commit, by "
            f"transaction.on_commit(..., using={elsewhere!r}), or open transaction.atomic(using={alias!r}) around both."
        )


@dataclass(frozen=True, kw_only=True)
class NewReport:
    """A report to enqueue, due now or at `trigger_time` (aware; None means now)."""

    report_id: int
    modifier_id: int
    trigger_time: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """Beside the report's default parameters, or instead of those with the same names."""
    priority: int | None = None
    """This and the next two are by default those of the report in the catalogue."""
    max_attempts: int | None = None
    route: str | None = None
    unique: str | None = None
    """`UNFINISHED`: if the same report with the same modifier and parameters is unfinished, that is the answer."""
    idempotency_key: str | None = None
    request_digest: str | None = None
    """With a key: the digest of the request, if settings that may change have made this content from it."""

    def digest(self) -> str:
        """A digest of the request or the content: it tells a repeated request from another one under the same key."""
        if self.request_digest is not None:
            return self.request_digest
        content = asdict(self)
        del content["request_digest"]
        # A digest of the time before these could be left out is that of the same request.
        content["priority"] = catalogue.DEFAULT_PRIORITY if self.priority is None else self.priority
        content["max_attempts"] = bounds.DEFAULT_ATTEMPTS if self.max_attempts is None else self.max_attempts
        for name in ("route", "unique"):
            if content[name] is None:
                del content[name]
        if self.trigger_time is not None:
            content["trigger_time"] = self.trigger_time.astimezone(UTC).isoformat()
        return digest_of(content)


def digest_of(content: Any) -> str:
    """The digest of a JSON value; the order of an object's fields does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_WITH_TERMS = ("priority", "max_attempts")
_NUMBERS = [field.name for field in fields(NewReport) if field.name in bounds.NUMBERS]
_ASKED_FOR = {field.name for field in fields(NewReport)} - {"trigger_time", "request_digest", "unique"}
_NOT_ASKED_FOR = [field.name for field in ReportQueue._meta.fields if field.name not in _ASKED_FOR]


@dataclass(frozen=True)
class Enqueued:
    """The row that holds the report, and whether this call made it.

    A known idempotency key does not, nor does `unique` if the report is unfinished already.
    """

    row: ReportQueue
    created: bool


def enqueue(
    report_id: int,
    modifier_id: int,
    *,
    trigger_time: datetime | None = None,
    params: Mapping[str, Any] | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    route: str | None = None,
    unique: str | None = None,
    idempotency_key: str | None = None,
    source: Source = Source.CODE,
) -> ReportQueue:
    """Put one report into the queue, as part of the caller's transaction: if that rolls back, there is no report.

    That is a transaction of the queue's database. In one of another database this warns (`OutsideTransaction`): the
    report stays, whatever becomes of that transaction.

    The catalogue says what the caller leaves out: priority, attempts and route, and the default parameters. If the
    `idempotency_key` is known with the same content, the row of that key is returned. With `unique="unfinished"`, a
    report with the same modifier and parameters that is unfinished is returned, and nothing is added. Raises
    `ValidationError` naming the field, also for parameters that do not fit the report's schema; `IdempotencyKeyReused`
    for a key known with other content.
    """
    new = NewReport(
        report_id=report_id,
        modifier_id=modifier_id,
        trigger_time=trigger_time,
        params={} if params is None else params,
        priority=priority,
        max_attempts=max_attempts,
        route=route,
        unique=unique,
        idempotency_key=idempotency_key,
    )
    return _enqueue([new], source, scope="")[0].row


def enqueue_many(reports: Sequence[NewReport], *, source: Source = Source.CODE, scope: str = "") -> list[Enqueued]:
    """Put reports into the queue, all or none; the results are in the order of the reports.

    `scope` says whose the idempotency keys are; empty: this project's code. Keys of different scopes are independent,
    so that no caller from outside can use up another's key, or see its row. Raises as `enqueue`; with several reports,
    the field is named with its place: `[3].priority`.
    """
    return _enqueue(reports, source, scope)


def _enqueue(reports: Sequence[NewReport], source: Source, scope: str) -> list[Enqueued]:
    """As `enqueue_many`. Only the public functions call it: the warning points at their callers."""
    _require_reports(reports)
    if (elsewhere := database.transaction_elsewhere()) is not None:
        warnings.warn(OutsideTransaction(elsewhere, database.alias()), stacklevel=3)
    if len(reports) > bounds.MAX_BULK:
        raise ValidationError(f"At most {bounds.MAX_BULK:,} reports at once; there are {len(reports):,}.")
    now = database_now()
    known_terms = catalogue.terms(
        one.report_id for one in reports if not bounds.number_problem("report_id", one.report_id)
    )
    budget = params_schema.call_budget()
    rows = [
        _new_row(
            report,
            _terms_of(report, known_terms),
            now,
            source,
            scope,
            budget,
            place=f"[{place}]." if len(reports) > 1 else "",
        )
        for place, report in enumerate(reports)
    ]
    alone = [row for row, report in zip(rows, reports, strict=True) if report.unique is not None]
    with locks.bounded(), tracing.sending(rows):
        for name in sorted({unique_lock(row.report_id, row.modifier_id) for row in alone}):
            locks.lock_until_commit(name)
        holders = _insert_once(rows, {id(row) for row in alone}, scope)
        announce(Verb.ENQUEUE, [row for row, holder in zip(rows, holders, strict=True) if holder is row], before="")
    return [Enqueued(holder, created=holder is row) for row, holder in zip(rows, holders, strict=True)]


def _terms_of(report: NewReport, known: Mapping[int, Terms]) -> Terms:
    # An id that is no number is refused later, with the other problems.
    return known.get(report.report_id, catalogue.NONE) if bounds.is_whole(report.report_id) else catalogue.NONE


def _require_reports(reports: Any) -> None:
    if not isinstance(reports, list | tuple):
        raise TypeError(f"`reports` must be a list of NewReport; it is a {type(reports).__name__}.")
    for place, report in enumerate(reports):
        if not isinstance(report, NewReport):
            raise TypeError(f"`reports[{place}]` must be a NewReport; it is a {type(report).__name__}.")


def known(idempotency_key: str, digest: str, *, scope: str) -> ReportQueue | None:
    """The row of a key of this scope, if the key is known.

    Raises `IdempotencyKeyReused` if it is known with another digest.
    """
    row = ReportQueue.objects.filter(idempotency_key=idempotency_key, idempotency_scope=scope).first()
    if row is not None:
        _require_same(row, digest, f"for row {row.pk}")
    return row


def _require_same(kept: ReportQueue, digest: str | None, where: str) -> None:
    if kept.idempotency_digest != digest:
        key = kept.idempotency_key
        raise IdempotencyKeyReused(f"Idempotency key {key!r} was first used with other content, {where}.")


def _after(due: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else due + timedelta(seconds=seconds)


def _new_row(
    report: NewReport, terms: Terms, now: datetime, source: Source, scope: str, budget: Budget, *, place: str
) -> ReportQueue:
    numbers = {name: getattr(report, name) for name in _NUMBERS}
    for name in _WITH_TERMS:
        numbers[name] = getattr(terms, name) if numbers[name] is None else numbers[name]
    problems: dict[str, Any] = {
        name: [text] for name, value in numbers.items() if (text := bounds.number_problem(name, value))
    }
    due = report.trigger_time or now
    try:
        bounds.validate_instant(due)
    except ValidationError as error:
        problems["trigger_time"] = error.messages
    if not isinstance(report.route, str | None):
        problems["route"] = ["Must be a text."]
    if report.unique not in (None, UNFINISHED):
        problems["unique"] = [f"Must be {UNFINISHED!r}, or left out; it is {report.unique!r:.100}."]
    row = ReportQueue(
        **numbers,
        route=terms.route if report.route is None else report.route,
        trigger_time=due,
        available_at=due,
        expires_at=None if "trigger_time" in problems else _after(due, terms.expires_after_seconds),
        deadline_at=None if "trigger_time" in problems else _after(due, terms.deadline_seconds),
        params=report.params,
        idempotency_key=report.idempotency_key,
        source=source,
        queued_by=audit.actor().by,
    )
    if not problems:
        try:
            # An empty key is a mistake, not the absence of one: `blank` would let it pass unseen.
            if row.idempotency_key == "":
                raise ValidationError({"idempotency_key": "Must not be empty; leave it out instead."})
            if not isinstance(row.idempotency_key, str | None):
                raise ValidationError({"idempotency_key": "Must be a text."})
            row.clean_fields(exclude=_NOT_ASKED_FOR)
        except ValidationError as error:
            problems.update(error.message_dict)
        try:
            bounds.validate_json_object(row.params)  # Django skips a field's validators for an empty list
            row.params = terms.params(row.params, budget)
        except ValidationError as error:
            problems["params"] = error.messages
    if problems:
        raise ValidationError({f"{place}{name}": messages for name, messages in problems.items()})
    if row.idempotency_key:
        row.idempotency_digest = report.digest()
        row.idempotency_scope = scope
    return row


def unique_lock(report_id: int, modifier_id: int) -> str:
    """The name of the lock that whoever looks for an unfinished report holds until its own is committed."""
    return f"reportqueue:unique:{report_id}:{modifier_id}"


def _insert_once(rows: list[ReportQueue], alone: set[int], scope: str) -> list[ReportQueue]:
    """Insert the rows without a known key of the scope, and those of `alone` (by `id()`) whose report is not
    unfinished yet; returns the row that holds each.

    Of two callers with one key, the second waits. Raises `RowBusy` if a key stays taken by a row that the caller's
    transaction cannot see, `IdempotencyKeyReused` for a key of other content.
    """
    keys = {row.idempotency_key for row in rows if row.idempotency_key}
    for _ in range(LOOKUPS):
        known = ReportQueue.objects.filter(idempotency_key__in=keys, idempotency_scope=scope) if keys else []
        by_key = {row.idempotency_key: row for row in known}
        holders: dict[int, ReportQueue] = {}
        fresh: list[ReportQueue] = []
        asked: dict[Any, ReportQueue] = {}
        # Sorted: two bulk inserts that share keys then wait for each other in one order, never in a circle.
        for row in sorted(rows, key=lambda row: row.idempotency_key or ""):
            holder = by_key.get(row.idempotency_key) if row.idempotency_key else None
            if holder is not None:
                # A row of this list is about to be inserted: it has no number yet.
                _require_same(holder, row.idempotency_digest, f"for row {holder.pk}" if holder.pk else "in this list")
            elif id(row) in alone:
                same = (row.report_id, row.modifier_id, row.params)
                key = (row.report_id, row.modifier_id, canonical(row.params))
                holder = asked.get(key) or ReportQueue.objects.same_unfinished(*same).order_by("pk").first()
                if holder is None:
                    asked[key] = row
            holders[id(row)] = holder or row
            if holder is None:
                fresh.append(row)
                if row.idempotency_key:
                    by_key[row.idempotency_key] = row
        try:
            with database.atomic():
                ReportQueue.objects.bulk_create(fresh)
        except IntegrityError as error:
            if "reportqueue_idempotency_key" not in str(error):
                raise
            for row in fresh:
                row.pk = None
            continue  # another transaction committed one of the keys since the look-up: look it up again
        return [holders[id(row)] for row in rows]
    raise RowBusy("A row with this idempotency key is there, but not for this transaction: repeat the transaction.")
