"""The judge must be able to say no: each kind of wrong, from ledgers written by hand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tools.chaos import ledger, points, report
from tools.chaos.judge import LOST, STUCK, TWICE, Row, judge, undelivered
from tools.chaos.ledger import Line

ROW = 7


def line(t: float, kind: str, run: str = "a", **facts: Any) -> Line:
    """A line about the row."""
    return {"t": t, "kind": kind, "row": ROW, "run": run, "pid": ord(run[0]), **facts}


def work(run: str, begin: float, end: float, outcome: str = "ok", *, accepted: bool | None = None) -> list[Line]:
    """A whole execution; one that ended well was accepted, unless told otherwise."""
    lines = [line(begin, "begin", run, attempt=1), line(end, "end", run, outcome=outcome)]
    if outcome == "ok" if accepted is None else accepted:
        lines.append(line(end + 0.1, "accepted", run))
    return lines


def killed(run: str, t: float) -> Line:
    """The parent has seen its death."""
    return line(t, "death", run, signal=9)


def found(lines: list[Line], status: str | None = "succeeded", runs: set[str] | None = None) -> set[str]:
    """What the judge says about the row: lost, twice, stuck. The queue believes in the accepted runs by default."""
    if runs is None:
        runs = {one["run"] for one in lines if one["kind"] == "accepted"}
    rows = {} if status is None else {ROW: Row(status, frozenset(runs))}
    bad = judge(lines, rows, [ROW])
    return set(bad[ROW].reasons) if bad else set()


def test_a_row_done_once_is_fine():
    assert found(work("a", 1, 2)) == set()


def test_a_row_done_after_failures_and_deaths_is_fine():
    lines = [line(1, "begin", "a"), killed("a", 2), *work("b", 3, 4, "raise"), *work("c", 5, 6)]
    assert found(lines) == set()


def test_each_row_of_a_run_is_judged_by_itself():
    other = ROW + 1
    lines = [
        *work("a", 1, 2),
        *({**one, "row": other} for one in work("a", 2, 3, accepted=False)),
        killed("a", 3.5),
        *({**one, "row": other} for one in work("b", 5, 6)),
    ]
    rows = {ROW: Row("succeeded", frozenset("a")), other: Row("succeeded", frozenset("b"))}
    assert judge(lines, rows, rows) == {}
    alive = [one for one in lines if one["kind"] != "death"]
    assert {pk: set(verdict.reasons) for pk, verdict in judge(alive, rows, rows).items()} == {other: {TWICE}}


def test_the_works_of_a_killed_run_end_with_it():
    lines = [line(1, "begin", "a"), *work("b", 3, 4)]
    assert found([*lines, killed("a", 2)]) == set()
    assert found([*lines, killed("a", 3.5)]) == {TWICE}


def test_a_row_that_disappeared_is_lost():
    assert LOST in found(work("a", 1, 2), status=None)


@pytest.mark.parametrize("status", ["failed", "cancelled", "skipped"])
def test_a_row_that_ended_without_its_report_is_lost(status):
    assert LOST in found(work("a", 1, 2, "raise"), status)


def test_a_success_that_nobody_worked_for_is_lost():
    assert LOST in found([], runs={"a"})
    assert LOST in found([], runs=set())


def test_a_success_of_a_run_that_raised_is_lost():
    assert LOST in found(work("a", 1, 2, "raise"), runs={"a"})


@pytest.mark.parametrize("status", ["queued", "claimed", "dispatched", "running"])
def test_a_row_that_is_not_final_is_stuck(status):
    assert found([], status, set()) == {STUCK}


def test_a_row_that_was_final_too_late_is_stuck():
    assert found([*work("a", 1, 2), line(1.5, "late")]) == {STUCK}


def test_two_accepted_successes_are_twice():
    assert found([*work("a", 1, 2), *work("b", 3, 4)]) == {TWICE}


def test_two_successes_are_twice_even_if_the_queue_forgot_one():
    assert TWICE in found([*work("a", 1, 2), *work("b", 3, 4)], runs={"b"})


def test_a_success_that_was_never_accepted_is_twice_if_nothing_explains_it():
    assert found([*work("a", 1, 2, accepted=False), *work("b", 3, 4)]) == {TWICE}


def test_a_worker_killed_before_complete_was_accepted_explains_the_second_success():
    assert found([*work("a", 1, 2, accepted=False), killed("a", 2.1), *work("b", 8, 9)]) == set()


def test_a_worker_killed_after_its_acceptance_explains_no_second_success():
    assert found([*work("a", 1, 2), killed("a", 2.2), *work("b", 8, 9)]) == {TWICE}


def test_works_whose_success_was_not_told_are_counted():
    lines = [*work("a", 1, 2, accepted=False), killed("a", 2.1), *work("b", 8, 9)]
    assert undelivered(lines, {ROW: Row("succeeded", frozenset({"b"}))}) == 1
    assert undelivered(lines, {ROW: Row("succeeded", frozenset({"a", "b"}))}) == 0


def test_an_outage_explains_the_second_success_of_its_own_rows_only():
    lines = [*work("a", 1, 2, accepted=False), *work("b", 8, 9)]
    fault = {"t": 2, "kind": "fault", "point": points.WEB_KILLED, "outage": True}
    assert found([*lines, {**fault, "rows": [ROW]}]) == set()
    assert found([*lines, {**fault, "rows": [ROW + 1]}]) == {TWICE}


def test_an_outage_explains_no_second_accepted_success():
    fault = {"t": 2, "kind": "fault", "point": points.WEB_KILLED, "outage": True, "rows": [ROW]}
    assert found([*work("a", 1, 2), *work("b", 8, 9), fault]) == {TWICE}


@pytest.mark.parametrize(("cycles", "successes", "wrong"), [(1, 2, None), (1, 1, LOST), (1, 3, TWICE), (0, 2, TWICE)])
def test_each_cycle_asks_for_one_success(cycles, successes, wrong):
    lines = [one for number in range(successes) for one in work("abc"[number], 10 * number, 10 * number + 5)]
    lines += [line(6, "cycle")] * cycles
    assert found(lines) == ({wrong} if wrong else set())


def test_works_that_overlap_are_twice_even_if_both_fail():
    assert TWICE in found([*work("a", 1, 3, "raise"), *work("b", 2.9, 4, "raise"), *work("c", 5, 6)])


def test_a_work_lasts_until_its_process_dies():
    lines = [line(1, "begin", "a"), *work("b", 3, 4)]
    assert found([*lines, killed("a", 2.9)]) == set()
    assert found([*lines, killed("a", 3.1)]) == {TWICE}
    assert found(lines) == {TWICE}  # of a process that nobody saw die, nobody knows


def frozen(woken: float, end: float, outcome: str) -> list[Line]:
    """Run a, frozen at 2 within its work, while run b does the work."""
    return [
        line(1, "begin"),
        line(2, "stop"),
        line(woken, "cont"),
        line(end, "end", outcome=outcome),
        *work("b", 8, 9),
    ]


def test_a_frozen_work_that_stops_when_it_wakes_up_is_fine():
    assert found(frozen(10, 10.2, "raise")) == set()


def test_a_frozen_work_that_wakes_up_and_ends_well_is_twice():
    assert found(frozen(10, 10.2, "ok")) == {TWICE}


def test_a_frozen_work_that_wakes_up_and_goes_on_is_twice():
    assert found(frozen(10, 14, "raise")) == {TWICE}


def test_a_frozen_work_whose_complete_was_accepted_beside_another_is_twice():
    lines = [*work("a", 1, 2, accepted=False), line(2.1, "stop"), line(9.5, "cont"), *work("b", 8, 9)]
    assert found(lines) == set()
    assert found([*lines, line(9.6, "accepted")]) == {TWICE}


def test_a_process_that_ended_by_itself_explains_a_second_success_only_if_that_was_a_fault():
    fault = {"t": 2.1, "kind": "fault", "point": points.EXITS, "rows": [ROW], "pids": [ord("a")]}
    lines = [*work("a", 1, 2, accepted=False), line(2.2, "death", "a", signal=0), *work("b", 8, 9)]
    assert found([*lines, fault]) == set()
    assert found(lines) == {TWICE}
    assert found([*lines, {**fault, "pids": [ord("b")]}]) == {TWICE}


def test_a_fault_explains_one_death_under_its_process_number_and_no_later_one():
    fault = {"t": 1.5, "kind": "fault", "point": points.EXITS, "rows": [ROW], "pids": [5]}
    first = [line(1, "begin", pid=5), line(2, "death", signal=0, pid=5)]
    later = [{**one, "pid": 5} for one in (*work("b", 3, 4, accepted=False), line(4.2, "death", "b", signal=0))]
    assert found([*first, fault, *later, *work("c", 8, 9)]) == {TWICE}


def bad(*begun: str, status: str = "failed", runs: set[str] = frozenset(), most: int | None = 2) -> set[str]:
    """What the judge says of a report that dies in each of these runs, and is to fail after two attempts."""
    lines = [line(0, "expected", ends=["failed"], least=2, most=most)]
    for number, run in enumerate(begun):
        lines += [line(10 * number, "begin", run), killed(run, 10 * number + 1)]
    return found(lines, status, set(runs))


def test_a_bad_report_that_fails_after_its_attempts_is_fine():
    assert bad("a", "b") == set()


@pytest.mark.parametrize("status", ["succeeded", "cancelled", "skipped"])
def test_a_bad_report_that_ends_otherwise_is_lost(status):
    assert bad("a", "b", status=status) == {LOST}


def test_a_bad_report_in_whose_success_the_queue_believes_is_lost():
    assert bad("a", "b", runs={"a"}) == {LOST}


@pytest.mark.parametrize("status", ["queued", "claimed", "dispatched", "running"])
def test_a_bad_report_that_is_not_final_is_stuck(status):
    assert bad("a", "b", status=status) == {STUCK}
    assert bad("a", status=status) == {STUCK}


def test_a_bad_report_that_fails_before_its_attempts_are_used_up_is_lost():
    assert bad("a") == {LOST}
    assert bad() == {LOST}


def test_a_bad_report_that_is_begun_more_often_than_it_has_attempts_is_twice():
    assert bad("a", "b", "c") == {TWICE}
    assert bad("a", "b", "c", most=None) == set()


def test_a_bad_report_that_disappeared_is_lost():
    assert judge([line(0, "expected", ends=["failed"], least=0, most=0)], {}, [ROW])[ROW].reasons.keys() == {LOST}


def hanging(*, hangs: bool) -> set[str]:
    """Two runs that are killed while they are at work, the second of them beside the first."""
    lines = [line(0, "expected", ends=["failed"], least=2, most=2)]
    for run, begun in (("a", 1), ("b", 7)):
        lines += [line(begun, "begin", run), killed(run, 15)]
        lines += [line(begun + 0.5, "stop", run, by=points.HANGS_WITH_LOCK)] if hangs else []
    return found(lines, "failed", set())


def test_a_bad_report_is_twice_if_two_of_its_runs_work_at_once_but_not_if_they_hang():
    assert hanging(hangs=True) == set()
    assert hanging(hangs=False) == {TWICE}


def test_a_row_that_the_harness_has_ended_is_stuck_and_nothing_else():
    assert found([line(5, "given up")], "cancelled", set()) == {STUCK}
    assert found([*work("a", 1, 3, "raise"), *work("b", 2, 4, "raise"), line(5, "given up")], "cancelled", set()) == {
        STUCK,
        TWICE,
    }


def test_a_good_report_that_is_lost_beside_a_bad_one_counts_at_its_point():
    lines = [{"t": 1, "kind": "beside", "point": points.BATCH_EXITS, "rows": [ROW]}]
    text, fine = report.table(lines, judge(lines, {ROW: Row("failed")}, [ROW]), points.ALL)
    assert not fine
    assert report.NO_POINT not in text
    (counted,) = [one.split()[-4:] for one in text.splitlines() if one.startswith(points.BATCH_EXITS)]
    assert counted == ["0", "1", "0", "0"]


def test_the_table_is_fine_only_if_nothing_is_wrong():
    fault = {"t": 1, "kind": "fault", "point": points.MIDDLE, "rows": [ROW]}
    good = [fault, *work("a", 1, 2)]
    assert report.table(good, {}, points.ALL)[1]
    bad = judge(good, {ROW: Row("running")}, [ROW])
    text, fine = report.table(good, bad, points.ALL)
    assert not fine
    (counted,) = [one.split()[-4:] for one in text.splitlines() if one.startswith(points.MIDDLE)]
    assert counted == ["1", "0", "0", "1"]


def test_the_table_shows_rows_that_no_fault_has_hit_and_problems_without_a_row():
    bad = judge([], {ROW: Row("running")}, [ROW])
    text, fine = report.table([], bad, points.ALL)
    assert not fine
    assert report.NO_POINT in text
    problem = {"t": 1, "kind": "problem", "point": points.SCHEDULER_KILLED, "verdict": "lost", "text": "08:00"}
    assert not report.table([problem], {}, points.ALL)[1]


def test_the_ledger_is_written_whole_lines_by_many_and_read_in_order_of_time(tmp_path: Path):
    path = tmp_path / "ledger"
    tail = ledger.Tail(_touched(path))

    def write(number: int) -> None:
        mine = ledger.Ledger(path)
        for _ in range(200):
            mine.write("begin", row=number, run="x" * 500)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = ledger.read(path)
    assert len(lines) == 800
    assert [one["t"] for one in lines] == sorted(one["t"] for one in lines)
    assert len(list(tail.lines())) == 800
    assert list(tail.lines()) == []


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path):
    path = _touched(tmp_path / "ledger")
    tail = ledger.Tail(path)
    path.write_text('{"t": 1, "kind": "begin"}\n{"t": 2,')
    assert [one["t"] for one in tail.lines()] == [1]
    path.write_text('{"t": 1, "kind": "begin"}\n{"t": 2, "kind": "end"}\n')
    assert [one["t"] for one in tail.lines()] == [2]


def _touched(path: Path) -> Path:
    path.touch()
    return path
