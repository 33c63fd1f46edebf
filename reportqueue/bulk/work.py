"""The work on bulk actions: batches of rows, each in one transaction with the progress that counts them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import DataError, IntegrityError

from reportqueue import audit, bounds, locks, queue
from reportqueue.bulk import filters as rows_of
from reportqueue.bulk.orders import told
from reportqueue.clock import database_now
from reportqueue.errors import InvalidTransition, ReportQueueError, RowBusy, RowNotFound
from reportqueue.models import BulkAction, BulkActionRow, ReportQueue
from reportqueue.models.audit import Kind, Via
from reportqueue.models.bulk import OPEN, BulkStatus
from reportqueue.queue import Objection
from reportqueue.states import Status, Verb

logger = logging.getLogger("reportqueue")
FIRST_BATCH, MOST = 50, 200
"""Rows of the first batch of a step, and of the largest one."""
WINDOW = 20_000
"""Ids that one batch looks through: where few rows match, no statement reads the whole table."""
BUSY_SECONDS = 0.25
"""How long a batch waits for a lock of one of its rows; then that row is refused."""
REASONS = 20
"""Different reasons of refusals that are counted; rows with others are counted together."""
OTHER = "Other reasons."
Together = Callable[..., Mapping[int, Any]]
"""Does a verb to several rows; each row, or why it was refused."""
_TOGETHER: dict[Verb, Together] = {Verb.REQUEUE: queue.requeue_together, Verb.CANCEL: queue.cancel_together}
# What was cancelled by mistake must not run before its time.
_UNDO: dict[Verb, Together] = {**_TOGETHER, Verb.REQUEUE: partial(queue.requeue_together, when_due=True)}


@dataclass(frozen=True)
class Worked:
    """What one step has done."""

    rows: int
    """Rows that it has changed."""
    left: bool
    """Whether there is more to do at once."""


class _TooLarge(Exception):
    """A change of one row prevents those of the others of its batch."""


def step(seconds: float, stopping: Callable[[], bool] = lambda: False) -> Worked:
    """Work on the open actions for about so many seconds, at least one batch; the actions take turns.

    Any number of processes may do so at once: no two work on the same action. An action whose work raises an error is
    paused, with the error. Raises errors of a database that is away.
    """
    if not BulkAction.objects.next_first().exists():
        return Worked(0, left=False)
    began = time.monotonic()
    changed, size, fruitful = 0, FIRST_BATCH, False
    while True:
        start = time.monotonic()
        try:
            found = _batch(size)
        except _TooLarge:
            size = max(1, size // 4)
        else:
            if found is None:
                return Worked(changed, left=False)
            fruitful = True
            changed += found
            size = min(MOST, size * 2)
        now = time.monotonic()
        # A batch is not begun if it would end too late. One that was too large is always tried again with fewer rows:
        # otherwise no step would come further.
        if fruitful and (stopping() or now - began + (now - start) > seconds):
            return Worked(changed, left=True)


def _batch(size: int) -> int | None:
    """Do the next rows of the action whose turn it is; how many rows were changed. None: there is no work.

    Raises `_TooLarge` if it has to be tried with fewer rows.
    """
    action: BulkAction | None = None
    try:
        with locks.bounded(BUSY_SECONDS):
            action = BulkAction.objects.next_first().select_for_update(skip_locked=True, of=("self",)).first()
            return None if action is None else _advance(action, size)
    except (RowBusy, _TooLarge):
        raise
    except Exception as error:
        if locks.is_away(error) or action is None:
            raise
        # The others must not wait for it.
        logger.exception("%s is paused by an error", action)
        said = bounds.last_bytes(f"{type(error).__name__}: {error}", bounds.MAX_REASON_LENGTH)
        found = BulkAction.objects.filter(pk=action.pk, status__in=sorted(OPEN))
        found.update(status=BulkStatus.PAUSED, problem=said)
        return 0


def _advance(action: BulkAction, size: int) -> int:
    """Change the next rows of a locked action, and store how far it has come."""
    verb = Verb(action.verb)
    before: dict[int, BulkActionRow] = {}
    if action.undo_of_id is not None:
        left = BulkActionRow.objects.filter(bulk_action=action.undo_of_id, queue_id__gt=action.last_id)
        before = {row.queue_id: row for row in left.order_by("queue_id")[:size]}
        pks = list(before)
        reached = pks[-1] if len(pks) == size else action.until_id
        objection = _changed_since(verb, before)
    else:
        pks, reached = _matching(action, verb, size)
        objection = _not_wanted(rows_of.statuses(verb, action.filters))
    with audit.acting(action.requested_by, Via(action.requested_via)):
        together = (_TOGETHER if action.undo_of_id is None else _UNDO)[verb]
        results = _changed(together, pks, _note(action, verb), objection) if pks else {}
    done = [row for row in results.values() if isinstance(row, ReportQueue)]
    refused = [error for error in results.values() if not isinstance(error, ReportQueue)]
    BulkActionRow.objects.bulk_create([_record(action, row) for row in done])
    now = database_now()
    action.last_id = reached
    action.done += len(done)
    action.asked += sum(row.status == Status.RUNNING for row in done)
    for error in refused:
        _count(action.refused, _why(error))
    action.worked_at = now
    action.started_at = action.started_at or now
    action.status = BulkStatus.RUNNING
    if reached >= action.until_id:
        action.status, action.finished_at = BulkStatus.FINISHED, now
        logger.info("%s has finished: %s done, %s refused", action, action.done, action.refused_count)
        with audit.acting(action.requested_by, Via(action.requested_via)):
            order = f"finish {'undo ' if action.undo_of_id else ''}{verb}"
            audit.record(order, Kind.BULK, action.pk, label=str(action), changes=told(action), reason=action.reason)
    action.save(
        update_fields=[
            "last_id", "done", "asked", "refused", "worked_at", "started_at", "status", "finished_at"
        ]
    )  # fmt: skip
    return len(done)


def _matching(action: BulkAction, verb: Verb, size: int) -> tuple[list[int], int]:
    """The next rows that match, at most `size`, and up to which id there are no others."""
    left = ReportQueue.objects.filter(pk__gt=action.last_id, pk__lte=action.until_id).order_by("pk")
    first = left.values_list("pk", flat=True).first()
    if first is None:
        return [], action.until_id
    end = min(first + WINDOW - 1, action.until_id)
    found = rows_of.rows(verb, action.filters).filter(pk__gte=first, pk__lte=end).order_by("pk")
    pks = list(found.values_list("pk", flat=True)[:size])
    return pks, pks[-1] if len(pks) == size else end


def _changed(together: Together, pks: list[int], note: str, objection: Objection) -> Mapping[int, Any]:
    """Do a verb to the rows; each row, or why it was refused. Raises `_TooLarge`."""
    try:
        return together(pks, reason=note, objection=objection)
    except (RowBusy, DataError, IntegrityError) as error:
        if len(pks) > 1:
            raise _TooLarge from error
        return {pks[0]: error}


def _not_wanted(statuses: set[Status]) -> Objection:
    """Refuses rows that somebody else has changed since they were found."""

    def objection(row: ReportQueue) -> ReportQueueError | None:
        return None if row.status in statuses else InvalidTransition(f"The report is {row.status} by now.")

    return objection


def _changed_since(verb: Verb, before: Mapping[int, BulkActionRow]) -> Objection:
    """Refuses rows that are not as the action to be undone has left them."""

    def objection(row: ReportQueue) -> ReportQueueError | None:
        left = before[row.pk]
        if left.asked:
            return InvalidTransition("The report was running when it was asked to end: that cannot be undone.")
        same = row.generation == left.generation and (
            (row.status == Status.QUEUED and row.available_at == left.changed_at)
            if verb is Verb.CANCEL
            else (row.status == Status.CANCELLED and row.finished_at == left.changed_at)
        )
        return None if same else InvalidTransition("The report was handed out, has started or was changed since.")

    return objection


def _record(action: BulkAction, row: ReportQueue) -> BulkActionRow:
    at: Any = {Status.QUEUED: row.available_at, Status.CANCELLED: row.finished_at}.get(Status(row.status), row.now)  # type: ignore[attr-defined]  # the time of its lock
    asked = row.status == Status.RUNNING
    return BulkActionRow(bulk_action=action, queue_id=row.pk, generation=row.generation, changed_at=at, asked=asked)


def _note(action: BulkAction, verb: Verb) -> str:
    """What the row says of its change; it is stored, and not translated."""
    done = {Verb.REQUEUE: "Requeued", Verb.CANCEL: "Cancelled"}[verb]
    which = f"bulk action {action.pk}" + (f", which undoes {action.undo_of_id}" if action.undo_of_id else "")
    note = f"{done} by {action.requested_by or 'somebody'} in {which}"
    return (note + (f": {action.reason}" if action.reason else ""))[: bounds.MAX_REASON_LENGTH]


def _why(error: Exception) -> str:
    """The reason in words that do not name the row, so that rows with the same reason are counted together."""
    if isinstance(error, RowNotFound):
        return str(RowNotFound())
    if isinstance(error, DataError | IntegrityError):
        return f"The database refuses it: {str(error).strip().splitlines()[0]}."[: bounds.MAX_REASON_LENGTH]
    return str(error)[: bounds.MAX_REASON_LENGTH]


def _count(refused: dict[str, int], why: str) -> None:
    # The last of the reasons is kept for all that come later.
    if why not in refused and len(refused) >= REASONS - 1:
        why = OTHER
    refused[why] = refused.get(why, 0) + 1
