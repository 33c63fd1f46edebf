"""The judge says yes to what is promised, and no to each kind of broken promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tools.chaos.ledger import Line
from tools.simulator import judge
from tools.simulator.judge import LOST, SILENT, STUCK, TWICE, Attempt, Row

BEGAN = datetime(2027, 3, 1, 6, 0, tzinfo=UTC)


def instant(seconds: float) -> datetime:
    """The wall clock at a time of the scenario."""
    return BEGAN + timedelta(seconds=seconds)


def row(pk: int = 1, **fields: Any) -> Row:
    """A row that somebody enqueued and that succeeded at once."""
    values: dict[str, Any] = {
        "id": pk,
        "status": "succeeded",
        "report_id": 2,
        "modifier_id": pk,
        "trigger_time": instant(0),
        "error": "",
        "result": None,
        "idempotency_key": f"report {pk}",
        "attempt": 1,
        "max_attempts": 3,
        "generation": 1,
        "source": "api",
        "params": {},
        "schedule_id": None,
    }
    return Row(**(values | fields))


def attempt(run: str, pk: int = 1, outcome: str = "succeeded", place: int = 1, generation: int = 1) -> Attempt:
    """An attempt, with a reason where it needs one."""
    return Attempt(place, pk, run, generation, outcome, "" if outcome == "succeeded" else "it has a reason")


def said(t: float, kind: str, **facts: Any) -> Line:
    """A line of the history."""
    return {"t": t, "kind": kind, **facts}


def work(run: str, begin: float, end: float, pk: int = 1, outcome: str = "ok") -> list[Line]:
    """A work from its begin to its end, accepted if it ended well."""
    lines = [said(begin, "begin", row=pk, run=run), said(end, "end", row=pk, run=run, outcome=outcome)]
    return [*lines, said(end, "accepted", row=pk, run=run)] if outcome == "ok" else lines


def found(lines: list[Line], rows: list[Row], attempts: list[Attempt]) -> set[str]:
    """The kinds of what is wrong."""
    ordered = sorted(lines, key=lambda line: float(line["t"]))
    return {wrong.kind for wrong in judge.judge(ordered, rows, attempts, instant)}


def test_a_report_that_was_asked_for_and_made_is_right():
    lines = [said(1, "requested", row=1, key="report 1"), *work("a", 2, 5)]
    assert found(lines, [row()], [attempt("a")]) == set()


@pytest.mark.parametrize("status", ["queued", "claimed", "dispatched", "running"])
def test_a_row_that_is_not_final_is_stuck(status: str):
    assert found([], [row(status=status, attempt=0)], []) == {STUCK}


def test_an_accepted_request_without_its_row_is_lost():
    assert found([said(1, "requested", row=1, key="report 1")], [], []) == {LOST}


def test_two_works_of_a_row_at_once_are_twice():
    lines = [*work("a", 2, 5, outcome="raise"), *work("b", 4, 8)]
    assert found(lines, [row(attempt=2)], [attempt("a", outcome="failed"), attempt("b")]) == {TWICE}


def test_a_frozen_work_is_not_at_work():
    lines = [said(2, "begin", row=1, run="a"), said(3, "stop", run="a"), said(100, "cont", run="a")]
    lines += [said(101, "end", row=1, run="a", outcome="interrupted"), *work("b", 70, 80)]
    assert found(lines, [row(attempt=2)], [attempt("a", outcome="expired"), attempt("b", place=2)]) == set()


def test_a_frozen_work_that_goes_on_for_long_is_at_work():
    lines = [said(2, "begin", row=1, run="a"), said(3, "stop", run="a"), said(60, "cont", run="a")]
    lines += [said(79, "end", row=1, run="a", outcome="interrupted"), *work("b", 70, 80)]
    assert found(lines, [row(attempt=2)], [attempt("a", outcome="expired"), attempt("b", place=2)]) == {TWICE}


def test_two_successes_where_one_was_asked_for_are_twice():
    lines = [*work("a", 2, 5), *work("b", 6, 8)]
    assert found(lines, [row(attempt=2)], [attempt("a"), attempt("b", place=2)]) == {TWICE}


def test_a_second_success_that_a_person_asked_for_is_right():
    lines = [*work("a", 2, 5), said(5.5, "cycle", row=1, sure=True), *work("b", 6, 8)]
    assert found(lines, [row()], [attempt("a"), attempt("b", place=2)]) == set()


def test_a_success_that_nobody_made_is_lost():
    assert found([], [row()], [attempt("a")]) == {LOST}


def test_an_accepted_success_that_the_table_does_not_have_is_lost():
    lines = work("a", 2, 5)
    assert LOST in found(lines, [row(status="failed", error="why")], [attempt("a", outcome="failed")])


def test_an_innocent_row_that_was_charged_for_the_death_of_its_run_is_lost():
    """Row 1 was in hand when the run died; row 2 had not begun."""
    lines = [said(2, "begin", row=1, run="a"), said(3, "death", run="a"), *work("b", 70, 71, pk=2)]
    attempts = [attempt("a", outcome="expired"), attempt("a", 2, "expired", 2), attempt("b", 2, place=3, generation=2)]
    failed = row(status="failed", error="its lease expired", attempt=1, max_attempts=1)
    assert found(lines, [failed, row(2, attempt=1)], attempts) == set()
    assert found(lines, [failed, row(2, attempt=2)], attempts) == {LOST}


def test_a_cancelled_row_that_nobody_cancelled_is_lost():
    cancelled = row(status="cancelled", attempt=0)
    assert found([], [cancelled], []) == {LOST}
    assert found([said(1, "cancel", row=1, sure=True)], [cancelled], []) == set()


def test_ends_without_a_reason_and_unexpected_errors_are_silent():
    lines = work("a", 2, 5, outcome="raise")
    assert found(lines, [row(status="failed")], [attempt("a", outcome="failed")]) == {SILENT}
    assert found([said(1, "broken", text="a 500")], [], []) == {SILENT}


def schedule(t: float, **fields: Any) -> Line:
    """A schedule was set or changed: every two minutes, unless told otherwise."""
    shown = {"modifier_id": 7, "cron": "*/2 * * * *", "enabled": True, "overlap": "allow"}
    return said(t, "schedule", id=3, sure=True, deleted=False, **(shown | fields))


def firing(pk: int, seconds: float, **fields: Any) -> Row:
    """The row of a firing, made by run `r{pk}`."""
    shown = {"report_id": 1, "modifier_id": 7, "source": "schedule", "trigger_time": instant(seconds)}
    return row(pk, **(shown | fields))


def test_every_firing_is_a_row_and_every_row_a_firing():
    lines = [schedule(10), said(260, "pass", since=255, whole=True), *work("a", 130, 131), *work("b", 250, 251, 2)]
    rows, attempts = [firing(1, 120), firing(2, 240)], [attempt("a"), attempt("b", 2)]
    assert found(lines, rows, attempts) == set()
    assert found(lines[:2] + lines[5:], rows[1:], attempts[1:]) == {LOST}
    assert found(lines, [rows[0], firing(2, 241)], attempts) == {LOST, TWICE}


def test_skipped_firings_are_rows_too_one_each_or_counted():
    lines = [schedule(10), said(260, "pass", since=255, whole=True)]
    each = [firing(pk, at, status="skipped", error="why", attempt=0) for pk, at in ((1, 120), (2, 240))]
    assert found(lines, each, []) == set()
    counted = {"first": "2027-03-01T06:02:00Z", "last": "2027-03-01T06:04:00Z"}
    assert found(lines, [firing(1, 240, status="skipped", error="why", attempt=0, result=counted)], []) == set()


def test_a_paused_schedule_has_no_firings():
    lines = [schedule(10), schedule(100, enabled=False), said(260, "pass", since=255, whole=True)]
    assert found(lines, [], []) == set()
    assert TWICE in found(lines, [firing(1, 120, status="skipped", error="why", attempt=0)], [])


@pytest.mark.parametrize(("overlap", "wrong"), [("allow", set()), ("skip", {TWICE}), ("queue_one", {TWICE})])
def test_works_of_a_schedule_that_limits_overlaps_are_never_at_once(overlap: str, wrong: set[str]):
    lines = [schedule(10, overlap=overlap), *work("a", 130, 150), *work("b", 140, 160, 2)]
    assert found(lines, [firing(1, 120), firing(2, 120.5, source="api")], [attempt("a"), attempt("b", 2)]) == wrong


def test_works_that_were_at_once_before_the_policy_was_tightened_are_right():
    lines = [schedule(10), *work("a", 130, 150), *work("b", 140, 160, 2), schedule(145, overlap="queue_one")]
    assert found(lines, [firing(1, 120), firing(2, 120.5, source="api")], [attempt("a"), attempt("b", 2)]) == set()


def test_a_firing_whose_day_was_closed_too_late_is_a_row_that_says_so():
    """Due at 06:02 each day; tomorrow is closed at 06:05, after today's firing, to which tomorrow's would move."""
    daily = schedule(10, cron="2 6 * * *")
    lines = [daily, said(150, "pass", since=145, whole=True), said(300, "holiday", schedule=3, minute=2)]
    lines += [*work("a", 150, 160), said(350, "pass", since=345, whole=True)]
    today, tomorrow = firing(1, 120), firing(2, 120 + 86_400, status="skipped", error="why", attempt=0)
    assert found(lines, [today, tomorrow], [attempt("a")]) == set()
    assert found(lines, [today], [attempt("a")]) == {LOST}
    early = [daily, said(90, "holiday", schedule=3, minute=2), *lines[1:2], *lines[3:]]
    assert found(early, [today], [attempt("a")]) == set()


def test_a_firing_while_the_calendar_is_closed_is_one_too_many():
    lines = [schedule(10), said(10, "calendar", modifier_id=7, closed=[(360, 365)])]
    lines += [*work("a", 130, 131), said(260, "pass", since=255, whole=True)]
    assert TWICE in found(lines, [firing(1, 120)], [attempt("a")])
    assert found([*lines[:2], lines[-1]], [], []) == set()
