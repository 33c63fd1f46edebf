"""What the wave of bad reports looks at besides the rows must be able to say no, too."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.dagster_reportqueue.waiting import until
from tools.chaos import meetings, points, remains
from tools.chaos.bad_reports import refuse_well
from tools.chaos.ledger import Ledger, Line, read
from tools.chaos.prober import Prober
from tools.runner import arguments

ROW = 7


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stays."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def said(kind: str, pid: int, t: float | None = None, row: int = ROW) -> Line:
    """A line about a process."""
    return {"t": time.monotonic() if t is None else t, "kind": kind, "row": row, "run": "a", "pid": pid}


@pytest.mark.parametrize("kind", ["begin", "process"])
def test_a_process_of_a_row_that_is_still_there_is_found(sleeper: subprocess.Popen[bytes], kind: str):
    (found,) = remains.of_rows([said(kind, sleeper.pid)], {ROW})
    assert (found.row, found.process.pid) == (ROW, sleeper.pid)
    assert remains.of_rows([said(kind, sleeper.pid)], {ROW + 1}) == []


def test_a_process_that_has_ended_is_not_found_whether_it_was_reaped_or_not(sleeper: subprocess.Popen[bytes]):
    sleeper.kill()
    until(lambda: remains.of_rows([said("begin", sleeper.pid)], {ROW}) == [], 20, what="a zombie")
    sleeper.wait()
    assert remains.of_rows([said("begin", sleeper.pid)], {ROW}) == []


def test_a_younger_process_under_the_same_number_is_not_found(sleeper: subprocess.Popen[bytes]):
    before = time.monotonic() - 2 * remains.CLOCK_SECONDS
    assert remains.of_rows([said("begin", sleeper.pid, before)], {ROW}) == []


def attend(count: int, rows: range, seconds: float, monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[bool]:
    """Whether each of the rows met the others."""
    monkeypatch.setenv("CHAOS_LEDGER", str(folder / "ledger.jsonl"))
    meeting = meetings.called("1", count, time.monotonic() + seconds)
    met: list[bool] = []
    threads = [threading.Thread(target=lambda row=row: met.append(meetings.attend(meeting, row))) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return met


def test_rows_meet_if_all_of_them_have_a_process_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert attend(3, range(3), 20, monkeypatch, tmp_path) == [True] * 3


def test_rows_do_not_meet_if_one_of_them_has_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert attend(3, range(2), 0.2, monkeypatch, tmp_path) == [False] * 2


class Web:
    """As the system asks it."""

    def __init__(self, folder: Path, code: int | None) -> None:
        self.ledger_path = folder / "ledger.jsonl"
        self.ledger = Ledger(self.ledger_path)
        self.code = code
        self.asked = threading.Event()

    def answer(self, method: str, path: str, *, seconds: float) -> tuple[int, dict[str, str]]:
        """Its answer, or none."""
        self.asked.set()
        if self.code is None:
            raise TimeoutError("timed out")
        return self.code, {}


@pytest.mark.parametrize(("code", "problems"), [(200, 0), (503, 1), (None, 1)])
def test_a_web_app_that_does_not_answer_is_a_problem_of_the_point_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, problems: int
):
    monkeypatch.setattr("tools.chaos.prober.PAUSE_SECONDS", 0.01)
    web: Any = Web(tmp_path, code)
    with Prober(web) as prober:
        prober.point = points.ROW_LOCKED
        for _ in range(3):
            web.asked.clear()
            assert web.asked.wait(20)
    found = [line for line in read(web.ledger_path) if line["point"] == points.ROW_LOCKED]
    assert [line["kind"] for line in found] == ["problem"] * problems


@pytest.mark.parametrize(
    ("answers", "well"),
    [({"503": 3}, True), ({"200": 1, "503": 3}, True), ({"200": 3}, False), ({"500": 1, "503": 3}, False), ({}, False)],
)
def test_calls_without_a_connection_must_be_refused_with_503(answers: dict[str, int], well: bool):
    assert refuse_well(answers) is well


def test_run_py_knows_every_wave_and_every_engine():
    assert set(arguments.WAVES) == {*points.WAVES, points.ENGINE}
    assert set(arguments.CHAOS_ENGINES) == set(points.ENGINES)


MISDEEDS = """
import os, sys
from tools.chaos import misdeeds
from tools.chaos.ledger import Ledger
misdeeds.commit(sys.argv[1], Ledger(sys.argv[2]), {"row": 7, "run": "a", "pid": os.getpid()})
"""
ENDS = {
    points.SEGFAULTS: -11,
    points.EXITS: 0,
    points.KILLS_ITSELF: -9,
    points.TERMINATES_ITSELF: -15,
    points.KEYBOARD_INTERRUPT: -2,
    points.SYSTEM_EXIT: 0,
    points.CANCELLED_ERROR: 1,
}


@pytest.mark.parametrize(("point", "code"), ENDS.items())
def test_a_misdeed_is_in_the_ledger_before_it_ends_the_process(tmp_path: Path, point: str, code: int):
    path = tmp_path / "ledger.jsonl"
    done = subprocess.run([sys.executable, "-c", MISDEEDS, point, str(path)], stderr=subprocess.DEVNULL, timeout=60)
    assert done.returncode == code
    (fault,) = read(path)
    assert (fault["kind"], fault["point"], fault["rows"]) == ("fault", point, [7])
    assert bool(fault["pids"]) is (point in points.DEADLY)


@pytest.mark.parametrize(("point", "left"), [(points.POOL_KEPT, 0), (points.CHILD_KEPT, 1), (points.DAEMON_KEPT, 1)])
def test_what_a_report_leaves_behind_outlives_it_and_is_found(tmp_path: Path, point: str, left: int):
    path = tmp_path / "ledger.jsonl"
    subprocess.run([sys.executable, "-W", "ignore", "-c", MISDEEDS, point, str(path)], check=True, timeout=60)
    found = remains.of_rows(read(path), {ROW})
    for one in found:
        one.process.kill()
    assert len(found) == left


@pytest.mark.parametrize("point", points.HANGING)
def test_a_report_that_hangs_does_not_hear_of_a_signal(tmp_path: Path, point: str):
    path = tmp_path / "ledger.jsonl"
    with subprocess.Popen([sys.executable, "-c", MISDEEDS, point, str(path)]) as process:
        try:
            until(lambda: blocks_or_is_stopped(process.pid), 20, what="the hang")
            assert [line["kind"] for line in read(path)] == ["fault", "stop"]
            process.terminate()
            until(lambda: pending(process.pid, signal.SIGTERM), 20, what="a signal that waits")
        finally:
            process.kill()


def blocks_or_is_stopped(pid: int) -> bool:
    """Whether it blocks SIGTERM, or is stopped."""
    return bool(_of_status(pid, "SigBlk") >> (signal.SIGTERM - 1) & 1) or (
        psutil.Process(pid).status() == psutil.STATUS_STOPPED
    )


def pending(pid: int, number: signal.Signals) -> bool:
    """Whether the signal was sent to the process, and is not delivered."""
    return bool(_of_status(pid, "ShdPnd") >> (number - 1) & 1)


def _of_status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")), 16)
