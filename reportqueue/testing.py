"""For a project's tests: assert what was queued, make the reports in place, and travel to a schedule's next firing.

Everything works in a `TestCase`, inside of its transaction. Signals are sent after the commit: use Django's
`captureOnCommitCallbacks(execute=True)` around the code whose signals a test needs.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from django.core.exceptions import FieldDoesNotExist
from django.db.models.functions import Now

from reportqueue import bounds, database, queue, schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.queue import choice
from reportqueue.states import Status

CONSUMER = "reportqueue.testing"
_FIELDS = {name for field in ReportQueue._meta.concrete_fields for name in (field.name, field.attname)}
Make = Callable[[ReportQueue], Mapping[str, Any] | None]
"""Makes the report of a row, and returns its result."""


@contextmanager
def assert_queued(*, count: int | None = None, **fields: Any) -> Iterator[list[ReportQueue]]:
    """Assert that the block queues reports with these values of the row's fields; yields the list that gets the rows.

        with assert_queued(report_id=3, modifier_id=17) as rows:
            place_order(17)
        assert rows[0].params == {"order": 4711}

    Without `count`, at least one; with `count=0`, none. Raises `AssertionError`, which names what was queued instead;
    `FieldDoesNotExist` for a name that is no field of the row.
    """
    if count is not None:
        _require_count("count", count, 0)
    if unknown := [name for name in fields if name not in _FIELDS]:
        raise FieldDoesNotExist(f"A row has no field {unknown[0]!r}. Its fields are {', '.join(sorted(_FIELDS))}.")
    since = _newest()
    found: list[ReportQueue] = []
    yield found
    new = list(ReportQueue.objects.filter(pk__gt=since).order_by("pk"))
    found += [row for row in new if all(getattr(row, name) == value for name, value in fields.items())]
    wanted = "at least one report" if count is None else f"{count} reports"
    if (count is None and not found) or (count is not None and len(found) != count):
        named = ", ".join(f"{name}={value!r}" for name, value in fields.items()) or "any values"
        raise AssertionError(f"Expected {wanted} with {named}; {len(found)} queued. All that was queued: {_told(new)}")


def run_queue(make: Make, *, limit: int = 100, raises: bool = True) -> list[ReportQueue]:
    """Make the due reports, at most `limit`, one after the other; returns their rows as they are then.

    `make(row)` returns the report's result, a JSON object or None. If it raises, or the queue refuses its result, the
    attempt has failed, as in a run of Dagster, and the error is raised again; with `raises=False` the next report
    follows. A report whose attempt has failed is due again after a delay, so it is not made twice here.
    """
    if not callable(make):
        raise TypeError(f"`make` must be a function of a row; it is {make!r}.")
    _require_count("limit", limit, 1)
    made: list[ReportQueue] = []
    choice.forget_turns()
    while len(made) < limit:
        rows = queue.claim(CONSUMER, limit=1).rows
        if not rows:
            break
        (row,) = rows
        row = queue.start(row.pk, generation=row.generation, run_id=f"{CONSUMER}-{row.pk}-{row.generation}")
        token = cast(UUID, row.lease_token)
        try:
            with database.atomic():  # an error of the database leaves the test's own transaction usable
                done = queue.complete(row.pk, lease_token=token, result=make(row))
        except Exception:
            made.append(queue.fail(row.pk, lease_token=token, error=traceback.format_exc()))
            if raises:
                raise
        else:
            made.append(done)
    return made


def travel_to_next_firing(schedule: ReportSchedule) -> list[ReportQueue]:
    """Queue the schedule's next firing as if its time had come; returns its rows, queued or skipped.

    Queued rows are due now. The schedule is planned for the firing after that, and `schedule` is read again. Raises
    `AssertionError` if it has no firing; `ValueError` if it is not saved, or has changes that are not saved.
    """
    if not isinstance(schedule, ReportSchedule):
        raise TypeError(f"`schedule` must be a ReportSchedule, not its id or another value; it is {schedule!r}.")
    _require_saved(schedule)
    since = _newest()
    schedules.enqueue_next(schedule.pk)
    new = ReportQueue.objects.filter(schedule=schedule.pk, pk__gt=since).order_by("pk")
    new.filter(status=Status.QUEUED).update(available_at=Now())
    schedule.refresh_from_db()
    if not (rows := list(new)):
        why = "it is paused" if not schedule.enabled else schedule.error or "it has none, or another pattern owns it"
        raise AssertionError(f"{schedule} has no next firing to queue: {why}.")
    return rows


def _require_count(name: str, value: Any, low: int) -> None:
    if not bounds.is_whole(value):
        raise TypeError(f"`{name}` must be a whole number; it is {value!r}.")
    if value < low:
        raise ValueError(f"`{name}` must be at least {low}; it is {value}.")


def _require_saved(schedule: ReportSchedule) -> None:
    stored = ReportSchedule.objects.filter(pk=schedule.pk).first()
    if stored is None:
        raise ValueError(f"Save the schedule first: {schedule} is not in the database.")
    edited = [field for field in ReportSchedule._meta.concrete_fields if field.editable and not field.primary_key]
    changed = [field.name for field in edited if getattr(schedule, field.attname) != getattr(stored, field.attname)]
    # With another version it was changed elsewhere since it was read: then what differs may be that change.
    if changed and stored.version == schedule.version:
        raise ValueError(f"Save the schedule first: {schedule} has unsaved changes of {', '.join(changed)}.")


def _newest() -> int:
    return ReportQueue.objects.order_by("pk").values_list("pk", flat=True).last() or 0


def _told(rows: list[ReportQueue]) -> str:
    shown = [f"report_id={row.report_id} modifier_id={row.modifier_id} params={row.params}" for row in rows[:20]]
    return "; ".join(shown) or "nothing"
