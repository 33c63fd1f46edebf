"""Which rows of a claim share a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dagster_reportqueue.client import QueueItem
from dagster_reportqueue.sensors.grouping import grouped


def item(number: int, **fields: Any) -> QueueItem:
    defaults: dict[str, Any] = {"attempt": 0, "max_attempts": 3, "priority": 0, "params": {}}
    return QueueItem(
        queue_id=number,
        report_id=1,
        modifier_id=1,
        trigger_time=datetime.now(UTC),
        generation=1,
        run_key=f"{number}:1",
        **(defaults | fields),
    )


def shape(items: list[QueueItem], *, size: int = 4, runs: int = 3, most: int = 100) -> list[tuple[list[int], bool]]:
    groups = grouped(items, size=size, runs=runs, most=most)
    assert sorted(one.queue_id for group in groups for one in group.items) == sorted(one.queue_id for one in items)
    return [([one.queue_id for one in group.items], group.one_by_one) for group in groups]


def test_good_rows_share_runs_evenly():
    assert shape([item(n) for n in range(6)]) == [([0, 1, 2], False), ([3, 4, 5], False)]


def test_a_row_with_which_a_run_has_died_goes_alone():
    assert shape([item(0), item(1, alone=True), item(2)]) == [([0, 2], False), ([1], False)]


def test_more_such_rows_than_a_tick_may_launch_go_one_by_one():
    rows = [item(n, alone=True) for n in range(8)]
    assert shape(rows, runs=2) == [([0], False), ([1], False), ([2, 3, 4], True), ([5, 6, 7], True)]


def test_rows_on_their_last_attempt_are_started_in_their_turn_only():
    rows = [item(0), item(1, max_attempts=1), item(2), item(3, attempt=2)]
    assert shape(rows) == [([0, 2], False), ([1, 3], True)]


def test_rows_whose_launches_came_to_nothing_go_in_ever_smaller_runs():
    rows = [item(n, launch_failures=failures) for n, failures in enumerate([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])]
    assert shape(rows) == [([0, 1, 2, 3], False), ([4, 5], False), ([6, 7], False), ([8], False), ([9], False)]


def test_a_claim_of_many_rows_has_no_more_runs_than_a_tick_can_launch():
    groups = shape([item(n, launch_failures=40) for n in range(1000)], size=50, runs=25)
    assert len(groups) == 100
