"""Mended faults of this project's history that can be put back: the simulator must find each of them.

Each is a small change of the product, made in memory. docs/guarantees.md says after how many faults it was found.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import Any
from unittest import mock

Change = tuple[str, str, Any]
"""A module, the name of something in it (`Class.method` for a method), and what is put in its place."""


def _same(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _a_dead_run_charges_all() -> list[Change]:
    """A report that ended its process used up an attempt of every report that its run had started."""
    return [("reportqueue.queue.rescue", "_not_begun", _same(set()))]


def _rows_with_which_a_run_died_share_runs() -> list[Change]:
    """Reports beside one that ended its process were put into one run with it again, and charged the second time."""
    from dataclasses import replace

    from dagster_reportqueue.sensors import grouping

    real = grouping.grouped

    def grouped(items: Any, **options: Any) -> Any:
        return real([replace(item, alone=False, launch_failures=0, max_attempts=100) for item in items], **options)

    return [("dagster_reportqueue.sensors.queue_sensor", "grouped", grouped)]


def _a_row_at_its_last_generation_stops_all_claims() -> list[Change]:
    """A row that could not be handed out once more made every claim fail."""
    return [("reportqueue.queue.claims", "_end_used_up", _same(False))]


def _a_counter_overflows() -> list[Change]:
    """A row whose launch failures were at their column's bound could not be taken back, nor reported."""
    return [
        (f"reportqueue.queue.{module}", "one_more", lambda count: count + 1) for module in ("claims", "rescue", "runs")
    ]


def _releases_without_bound() -> list[Change]:
    """A report that interrupted its own run was begun again for ever, at once."""
    from reportqueue.queue import runs

    real = runs.release

    def release(pk: int, **how: Any) -> Any:
        return real(pk, **{**how, "begun": False})

    return [("reportqueue.queue", "release", release)]


def _stray_runs_keep_their_slots() -> list[Change]:
    """A run whose report hung kept its slot for ever."""
    return [("dagster_reportqueue.sensors.stray_runs", "StrayRuns.end", _same(0))]


def _a_run_goes_on_without_its_lease() -> list[Change]:
    """Work went on although no heartbeat reached the queue, beside the run that made the report next."""
    return [("dagster_reportqueue.execution.leases", "STOP_AT", 1000.0)]


def _a_stale_owner_completes() -> list[Change]:
    """A run that had lost its row could finish it."""
    from reportqueue.states import Status

    return [("reportqueue.queue.runs", "owns", lambda row, lease_token: row.status == Status.RUNNING)]


def _waiting_reports_are_not_freed() -> list[Change]:
    """A report that waited for another one was not freed when that one ended."""
    return [("reportqueue.queue.turns", "pass_on", _same(None))]


def _a_deleted_schedule_strands_its_waiting_report() -> list[Change]:
    """A report that waited for another one waited for ever if their schedule was deleted meanwhile."""
    from reportqueue.models import ReportSchedule
    from reportqueue.queue import turns

    real = turns.pass_on

    def pass_on(keys: Any) -> None:
        real(ReportSchedule.objects.filter(pk__in=list(keys)).values_list("pk", flat=True))

    return [("reportqueue.queue.turns", "pass_on", pass_on)]


def _a_requeued_report_overlaps() -> list[Change]:
    """A report that a person requeued ran beside another one of its schedule, which does not allow overlaps."""
    return [
        ("reportqueue.queue.turns", "Entry.key", _same(None)),
        ("reportqueue.queue.turns", "Entry.must_wait", _same(False)),
        *_reports_of_a_tightened_policy_overlap(),  # otherwise the next firing lines it up
    ]


def _reports_of_a_tightened_policy_overlap() -> list[Change]:
    """Reports that were queued while overlaps were allowed ran at the same time after that was forbidden."""
    return [("reportqueue.models.queue", "ReportQueueQuerySet.line_up", _same(None))]


def _yearly_days_shift() -> list[Change]:
    """Days that are closed every year were counted from their first day: none from a 29 February in other years."""
    from reportqueue.timing import calendars

    def covers(days: calendars.ClosedDays, day: date) -> bool:
        if not days.every_year:
            return days.first <= day <= days.last
        try:
            first = days.first.replace(year=day.year)
        except ValueError:
            return False
        return first <= day <= first + (days.last - days.first)

    return [("reportqueue.timing.calendars", "ClosedDays.covers", covers)]


def _a_holiday_entered_late_loses_a_firing() -> list[Change]:
    """A firing whose day was closed after its new time had passed was in no row."""
    return [("reportqueue.schedules.expansion", "changed_too_late", _same(()))]


def _one_run_key_for_a_row() -> list[Change]:
    """A row that was launched again had the run key of its first launch, which Dagster drops."""
    return [("reportqueue.models.queue", "ReportQueue.run_key", property(lambda row: f"{row.pk}:1"))]


def _missed_firings_leave_no_row() -> list[Change]:
    """Firings that a schedule's own rules left out were in no row."""
    return [("reportqueue.schedules.skips", "skip_rows", _same([]))]


_CHANGES: dict[str, Callable[[], list[Change]]] = {
    function.__name__.strip("_").replace("_", "-"): function
    for function in (
        _a_dead_run_charges_all,
        _rows_with_which_a_run_died_share_runs,
        _a_row_at_its_last_generation_stops_all_claims,
        _a_counter_overflows,
        _releases_without_bound,
        _stray_runs_keep_their_slots,
        _a_run_goes_on_without_its_lease,
        _a_stale_owner_completes,
        _waiting_reports_are_not_freed,
        _a_deleted_schedule_strands_its_waiting_report,
        _a_requeued_report_overlaps,
        _reports_of_a_tightened_policy_overlap,
        _yearly_days_shift,
        _a_holiday_entered_late_loses_a_firing,
        _one_run_key_for_a_row,
        _missed_firings_leave_no_row,
    )
}
NAMES = tuple(_CHANGES)


@contextmanager
def installed(name: str | None) -> Iterator[None]:
    """Put the fault of this name back; None: put back nothing."""
    with ExitStack() as stack:
        for module, path, value in _CHANGES[name]() if name else []:
            owner: Any = importlib.import_module(module)
            *owners, last = path.split(".")
            for one in owners:
                owner = getattr(owner, one)
            stack.enter_context(mock.patch.object(owner, last, value))
        yield
