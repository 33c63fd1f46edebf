"""An external process that makes a report: it keeps the lease, reports its result, and ends with the report's work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterRunStatus

from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.pipes import ReportPipesClient
from reportqueue import queue
from reportqueue.states import Outcome, Status
from tests.conftest import build_row
from tests.dagster_reportqueue.front import Fault, Front
from tests.dagster_reportqueue.runs import Runner, the_row
from tests.dagster_reportqueue.waiting import NEVER, meanwhile, until

# Dagster itself uses it when it opens a session.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Function `PipesMessageReader.expected_writer_count`:dagster.PreviewWarning"
)
PROGRAM = """
import os, pathlib, signal, sys, time
from dagster_pipes import open_dagster_pipes

do, folder = sys.argv[1], pathlib.Path(sys.argv[2])
if do == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with open_dagster_pipes() as pipes:
    (folder / "unfinished").write_text(str(os.getpid()))
    (folder / "unfinished").rename(folder / "pid")
    if do == "fail":
        sys.exit(3)
    try:
        while not (folder / "go").exists():
            time.sleep(0.01)
    except KeyboardInterrupt:
        (folder / "cleaned up").touch()
        sys.exit(1)
    pipes.report_custom_message({"rows": pipes.get_extra("rows")})
"""


def work(do: str, folder: Path, **options: Any) -> Callable[[ReportRun], Mapping[str, Any]]:
    """Report code that runs the program."""

    def make(run: ReportRun) -> Mapping[str, Any]:
        client = ReportPipesClient(**options)
        command = [sys.executable, "-c", PROGRAM, do, str(folder)]
        done = client.run(command=command, extras={"rows": 3 + run.report_id})
        (message,) = done.get_custom_messages()
        return dict(message)

    return make


def pid_of(folder: Path) -> int:
    until(lambda: (folder / "pid").exists(), what="the start of the process")
    return int((folder / "pid").read_text())


def has_ended(pid: int) -> bool:
    """Whether the process is gone, also as a zombie."""
    return not Path(f"/proc/{pid}").exists()


def cancel(folder: Path) -> Callable[[], None]:
    def act() -> None:
        pid_of(folder)
        queue.cancel(the_row().pk, reason="wrong year")

    return act


def test_a_process_keeps_the_lease_while_it_works_and_returns_the_result(runner: Runner, front: Front, tmp_path: Path):
    build_row(report_id=4)

    def let_it_end_later() -> None:
        front.wait_for("heartbeat", 2)
        (tmp_path / "go").touch()

    with meanwhile(let_it_end_later):
        result = runner.make(work("wait", tmp_path))
    assert runner.status(result) == DagsterRunStatus.SUCCESS
    row = the_row()
    assert (row.status, row.attempt, row.result) == (Status.SUCCEEDED, 1, {"rows": 7})


def test_a_cancel_interrupts_the_process_which_may_clean_up(runner: Runner, tmp_path: Path):
    build_row()
    with meanwhile(cancel(tmp_path)):
        result = runner.make(work("wait", tmp_path))
    assert runner.status(result) == DagsterRunStatus.CANCELED
    assert the_row().status == Status.CANCELLED
    assert (tmp_path / "cleaned up").exists()
    assert has_ended(pid_of(tmp_path))


def test_a_process_that_ignores_the_interrupt_is_killed(runner: Runner, tmp_path: Path):
    build_row()
    with meanwhile(cancel(tmp_path)):
        result = runner.make(work("stubborn", tmp_path, termination_timeout_seconds=0.2))
    assert runner.status(result) == DagsterRunStatus.CANCELED
    assert the_row().status == Status.CANCELLED
    assert has_ended(pid_of(tmp_path))


def test_a_process_is_killed_before_another_run_may_own_the_row(runner: Runner, front: Front, tmp_path: Path):
    build_row()

    def cut_off() -> None:
        pid = pid_of(tmp_path)
        front.fail(Fault.DROP, on="heartbeat")
        until(lambda: has_ended(pid), what="the end of the process")
        # Its own run still owns the row, or has just failed it: the lease has not ended.
        assert the_row().attempts.get().outcome in ("", Outcome.FAILED)

    with meanwhile(cut_off):
        result = runner.make(work("stubborn", tmp_path, termination_timeout_seconds=NEVER))
    assert runner.status(result) == DagsterRunStatus.FAILURE
    assert the_row().attempts.get().outcome == Outcome.FAILED


def test_the_exit_code_of_a_process_fails_the_report(runner: Runner, tmp_path: Path):
    build_row()
    runner.make(work("fail", tmp_path))
    row = the_row()
    assert (row.status, row.attempts.get().outcome) == (Status.QUEUED, Outcome.FAILED)
    assert "The external process failed with code 3" in row.error
