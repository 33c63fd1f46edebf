"""Enqueue one report or many; `firings` inserts the rows of schedules."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError

from reportqueue import bounds, database, locks
from reportqueue.clock import database_now
from reportqueue.errors import IdempotencyKeyReused, RowBusy
from reportqueue.models import ReportQueue
from reportqueue.signals import announce
from reportqueue.states import Source, Verb

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
    priority: int = 0
    max_attempts: int = bounds.DEFAULT_ATTEMPTS
    idempotency_key: str | None = None
    request_digest: str | None = None
    """With a key: the digest of the request, if settings that may change have made this content from it."""

    def digest(self) -> str:
        """A digest of the request or the content: it tells a repeated request from another one under the same key."""
        if self.request_digest is not None:
            return self.request_digest
        content = asdict(self)
        del content["request_digest"]
        if self.trigger_time is not None:
            content["trigger_time"] = self.trigger_time.astimezone(UTC).isoformat()
        return digest_of(content)


def digest_of(content: Any) -> str:
    """The digest of a JSON value; the order of an object's fields does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_NUMBERS = [field.name for field in fields(NewReport) if field.name in bounds.NUMBERS]
_ASKED_FOR = {field.name for field in fields(NewReport)} - {"trigger_time", "request_digest"}
_NOT_ASKED_FOR = [field.name for field in ReportQueue._meta.fields if field.name not in _ASKED_FOR]


@dataclass(frozen=True)
class Enqueued:
    """The row that holds the report, and whether this call made it (a known idempotency key does not)."""

    row: ReportQueue
    created: bool


def enqueue(
    report_id: int,
    modifier_id: int,
    *,
    trigger_time: datetime | None = None,
    params: Mapping[str, Any] | None = None,
    priority: int = 0,
    max_attempts: int = bounds.DEFAULT_ATTEMPTS,
    idempotency_key: str | None = None,
    source: Source = Source.CODE,
) -> ReportQueue:
    """Put one report into the queue, as part of the caller's transaction: if that rolls back, there is no report.

    That is a transaction of the queue's database. In one of another database this warns (`OutsideTransaction`): the
    report stays, whatever becomes of that transaction.

    If the `idempotency_key` is known with the same content, the row of that key is returned. Raises `ValidationError`
    naming the field, `IdempotencyKeyReused` for a key known with other content.
    """
    new = NewReport(
        report_id=report_id,
        modifier_id=modifier_id,
        trigger_time=trigger_time,
        params={} if params is None else params,
        priority=priority,
        max_attempts=max_attempts,
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
    rows = [
        _new_row(report, now, source, scope, place=f"[{place}]." if len(reports) > 1 else "")
        for place, report in enumerate(reports)
    ]
    with locks.bounded():
        by_key = _insert_once(rows, scope)
        announce(Verb.ENQUEUE, [row for row in rows if by_key.get(row.idempotency_key, row) is row], before="")
        answers = []
        for row in rows:
            kept = by_key[row.idempotency_key] if row.idempotency_key else row
            # A row of this list is about to be rolled back: its number would lead nowhere.
            where = "in this list" if any(kept is one for one in rows) else f"for row {kept.pk}"
            _require_same(kept, row.idempotency_digest, where)
            answers.append(Enqueued(kept, created=kept is row))
    return answers


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


def _new_row(report: NewReport, now: datetime, source: Source, scope: str, *, place: str) -> ReportQueue:
    numbers = {name: getattr(report, name) for name in _NUMBERS}
    problems: dict[str, Any] = {
        name: [text] for name, value in numbers.items() if (text := bounds.number_problem(name, value))
    }
    due = report.trigger_time or now
    try:
        bounds.validate_instant(due)
    except ValidationError as error:
        problems["trigger_time"] = error.messages
    row = ReportQueue(
        **numbers,
        trigger_time=due,
        available_at=due,
        params=report.params,
        idempotency_key=report.idempotency_key,
        source=source,
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
        except ValidationError as error:
            problems["params"] = error.messages
    if problems:
        raise ValidationError({f"{place}{name}": messages for name, messages in problems.items()})
    if row.idempotency_key:
        row.idempotency_digest = report.digest()
        row.idempotency_scope = scope
    return row


def _insert_once(rows: list[ReportQueue], scope: str) -> dict[str | None, ReportQueue]:
    """Insert the rows without a known key of the scope; returns each key's row.

    Of two callers with one key, the second waits. Raises `RowBusy` if a key stays taken by a row that the caller's
    transaction cannot see.
    """
    keys = {row.idempotency_key for row in rows if row.idempotency_key}
    for _ in range(LOOKUPS):
        known = ReportQueue.objects.filter(idempotency_key__in=keys, idempotency_scope=scope) if keys else []
        by_key: dict[str | None, ReportQueue] = {row.idempotency_key: row for row in known}
        # Sorted: two bulk inserts that share keys then wait for each other in one order, never in a circle.
        fresh = [
            row
            for row in sorted(rows, key=lambda row: row.idempotency_key or "")
            if row.idempotency_key is None or by_key.setdefault(row.idempotency_key, row) is row
        ]
        try:
            with database.atomic():
                ReportQueue.objects.bulk_create(fresh)
        except IntegrityError as error:
            if "reportqueue_idempotency_key" not in str(error):
                raise
            for row in fresh:
                row.pk = None
            continue  # another transaction committed one of the keys since the look-up: look it up again
        return by_key
    raise RowBusy("A row with this idempotency key is there, but not for this transaction: repeat the transaction.")
