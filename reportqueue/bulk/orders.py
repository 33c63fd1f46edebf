"""What people order: start a bulk action, pause it, resume it, stop it, undo it. The work itself is in `work`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Max, QuerySet

from reportqueue import audit, bounds, locks, notices
from reportqueue.bulk import filters as rows_of
from reportqueue.clock import database_now
from reportqueue.errors import BulkActionNotFound, BulkActionRefused, IdempotencyKeyReused
from reportqueue.models import BulkAction, ReportQueue
from reportqueue.models.audit import Kind
from reportqueue.models.bulk import ENDED, OPEN, BulkStatus, BulkVerb
from reportqueue.states import Verb

logger = logging.getLogger("reportqueue")
LOCK = "reportqueue:bulk"
_OPPOSITE = {BulkVerb.REQUEUE.value: BulkVerb.CANCEL.value, BulkVerb.CANCEL.value: BulkVerb.REQUEUE.value}


def permission(action: BulkAction, order: str) -> str:
    """The codename of the permission that an order on this action needs: that of the verb that rows would meet."""
    return f"{_OPPOSITE[action.verb] if order == 'undo' else action.verb}_reportqueue"


def start(
    verb: Verb | str,
    filters: Mapping[str, Any],
    *,
    reason: str = "",
    by: str = "",
    all_rows: bool = False,
    idempotency_key: str | None = None,
    scope: str = "",
) -> BulkAction:
    """Have a verb, `requeue` or `cancel`, done to all rows that match the filters of the API's list.

    Rows that do not exist yet are not touched. `by` is who wants it. Without any filter `all_rows` must be True. With
    an `idempotency_key` that is known in its `scope`, the first action is returned. Raises `ValidationError` naming
    the argument or the filter, and `IdempotencyKeyReused` for a key that is known with something else.
    """
    wanted = _verb(verb)
    stored = rows_of.checked(wanted, filters)
    if bool(stored) == all_rows:
        text = (
            "Leave out the filters or `all`." if stored else "Without a filter, confirm with `all` that all are meant."
        )
        raise ValidationError({"all": text})
    made = BulkAction(
        verb=wanted.value,
        filters=stored,
        reason=reason,
        requested_by=by[: bounds.MAX_USER_LENGTH],
        requested_via=audit.actor().via,
        idempotency_key=idempotency_key,
        idempotency_scope=scope if idempotency_key is not None else "",
    )
    _check(made)
    found = rows_of.preview(wanted, stored, sample=0)
    made.total, made.more = found.total, found.more
    with locks.bounded(lock=LOCK):
        if idempotency_key is not None and (known := _known(made)) is not None:
            return known
        numbers = ReportQueue.objects.order_by("pk").values_list("pk", flat=True)
        first, last = numbers.first(), numbers.last()
        made.first_id = made.last_id = 0 if first is None else first - 1
        made.until_id = last or 0
        return _saved(made)


def pause(pk: int, *, by: str = "") -> BulkAction:
    """Let an action rest; one that rests is returned as it is. Raises `BulkActionRefused` if it has ended."""
    with _locked(pk) as action:
        _require_unfinished(action, "paused")
        if action.status != BulkStatus.PAUSED:
            _write(action, "pause", by, status=BulkStatus.PAUSED)
        return action


def resume(pk: int, *, by: str = "") -> BulkAction:
    """Let a paused action go on; an open one is returned as it is. Raises `BulkActionRefused` if it has ended."""
    with _locked(pk) as action:
        _require_unfinished(action, "resumed")
        if action.status == BulkStatus.PAUSED:
            _write(action, "resume", by, status=BulkStatus.WAITING, worked_at=database_now(), problem="")
            notices.notify(notices.BULK)
        return action


def stop(pk: int, *, by: str = "") -> BulkAction:
    """End an action where it is; a stopped one is returned as it is. What it has done stays done.

    Raises `BulkActionRefused` if it has finished.
    """
    with _locked(pk) as action:
        if action.status == BulkStatus.CANCELLED:
            return action
        _require_unfinished(action, "stopped")
        _write(action, "stop", by, status=BulkStatus.CANCELLED, finished_at=database_now())
        return action


def undo(pk: int, *, reason: str = "", by: str = "") -> BulkAction:
    """Start another action that takes back what an ended one has done, as far as that is still possible.

    It cancels rows that the action has queued and that are queued since; it requeues rows that the action has cancelled
    and that are cancelled since. All others are refused. A second call returns the same undo. Raises
    `BulkActionRefused` if the action has not ended, or has changed no row.
    """
    with locks.bounded(lock=LOCK), _locked(pk) as action:
        if action.status not in ENDED:
            raise BulkActionRefused("A bulk action that has not ended cannot be undone. Stop it first.")
        if (known := action.undos.exclude(status=BulkStatus.CANCELLED).first()) is not None:
            return known
        last = action.rows.aggregate(last=Max("queue_id"))["last"]
        if last is None:
            raise BulkActionRefused("This bulk action has changed no row: there is nothing to undo.")
        made = BulkAction(
            verb=_OPPOSITE[action.verb],
            reason=reason,
            requested_by=by[: bounds.MAX_USER_LENGTH],
            requested_via=audit.actor().via,
            undo_of=action,
            total=min(action.done, bounds.MAX_COUNT),
            first_id=-1,
            last_id=-1,
            until_id=last,
        )
        _check(made)
        return _saved(made)


def get(pk: int) -> BulkAction:
    """The action. Raises `BulkActionNotFound`."""
    found = BulkAction.objects.filter(pk=pk).first()
    if found is None:
        raise BulkActionNotFound(f"There is no bulk action {pk}.")
    return found


def prune(*, older_than: timedelta) -> int:
    """Delete actions that ended longer ago than this, with their lists of rows; how many. They cannot be undone then.

    An action stays for as long as there is an undo of it.
    """
    old = _old(older_than)
    deleted = 0
    for pk in list(old.order_by("-pk").values_list("pk", flat=True)):  # an undo before what it undoes
        with locks.bounded(lock=LOCK):
            action = old.filter(pk=pk, undos=None).select_for_update(of=("self",)).first()
            if action is not None:
                action.delete()
                deleted += 1
    return deleted


def count_prunable(*, older_than: timedelta) -> int:
    """How many actions `prune` would delete now."""
    old = list(_old(older_than).order_by("-pk").values_list("pk", "undo_of"))
    stay = set(
        BulkAction.objects.exclude(pk__in=_old(older_than)).exclude(undo_of=None).values_list("undo_of", flat=True)
    )
    for pk, undo_of in old:
        if pk in stay and undo_of is not None:
            stay.add(undo_of)
    return sum(pk not in stay for pk, _ in old)


def _old(older_than: timedelta) -> QuerySet[BulkAction]:
    return BulkAction.objects.filter(status__in=sorted(ENDED), finished_at__lt=database_now() - older_than)


def told(action: BulkAction) -> dict[str, Any]:
    """What the audit says of an action that has ended: its filters, how many rows it has changed, how many refused."""
    counts = {"done": action.done, "asked": action.asked, "refused": action.refused_count}
    return _filters(action) | {name: [None, count] for name, count in counts.items() if count or name == "done"}


def _filters(action: BulkAction) -> dict[str, Any]:
    undone = {"undo_of": action.undo_of_id} if action.undo_of_id is not None else {}
    return {name: [None, value] for name, value in (action.filters | undone).items()}


def _verb(given: Verb | str) -> Verb:
    if given not in BulkVerb.values:
        raise ValidationError({"verb": f"Must be {' or '.join(BulkVerb.values)}."})
    return Verb(given)


def _check(action: BulkAction) -> None:
    """Refuse texts that come from outside and cannot be stored."""
    given = {"reason", "idempotency_key"}
    action.clean_fields(exclude={field.name for field in BulkAction._meta.fields} - given)


def _known(asked: BulkAction) -> BulkAction | None:
    known = BulkAction.objects.filter(
        idempotency_key=asked.idempotency_key, idempotency_scope=asked.idempotency_scope
    ).first()
    if known is not None and any(
        getattr(known, name) != getattr(asked, name) for name in ("verb", "filters", "reason")
    ):
        raise IdempotencyKeyReused
    return known


def _saved(action: BulkAction) -> BulkAction:
    action.save(force_insert=True)
    action.refresh_from_db()
    order = f"{'undo' if action.undo_of_id else 'start'} {action.verb}"
    audit.record(order, Kind.BULK, action.pk, label=str(action), changes=_filters(action), reason=action.reason)
    notices.notify(notices.BULK)
    logger.info("%s: %s by %s", action, action.verb, action.requested_by or "somebody")
    return action


@contextmanager
def _locked(pk: int) -> Iterator[BulkAction]:
    """The action, locked: between two batches, since a batch holds its lock. Raises `BulkActionNotFound`."""
    with locks.bounded():
        found = BulkAction.objects.filter(pk=pk).select_for_update().first()
        if found is None:
            raise BulkActionNotFound(f"There is no bulk action {pk}.")
        yield found


def _require_unfinished(action: BulkAction, done: str) -> None:
    if action.status not in OPEN | {BulkStatus.PAUSED}:
        ended = "has finished" if action.status == BulkStatus.FINISHED else "was stopped"
        raise BulkActionRefused(f"A bulk action that {ended} cannot be {done}.")


def _write(action: BulkAction, order: str, by: str, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(action, name, value)
    action.save(update_fields=list(changes))
    what = told(action) if action.has_ended else {}
    audit.record(order, Kind.BULK, action.pk, label=str(action), changes=what)
    logger.info("%s is %s%s", action, action.status, f" by {by}" if by else "")
