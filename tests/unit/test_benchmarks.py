"""What the tools.benchmarks make of what they measured: a judge that cannot say no would be none."""

import os
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from project.environment import BASE_DIR
from tools.benchmarks import backlog, cost, figures, goals, patterns, record, trees, usage
from tools.benchmarks.patterns import Fired


@pytest.mark.parametrize(
    ("found", "expected"), [([3.0], 3.0), (range(1, 21), 19), (range(1, 31), 29), (range(1, 101), 95), ([2, 9, 1], 9)]
)
def test_the_95th_percentile_is_what_no_more_than_one_in_twenty_exceed(found: list[float], expected: float):
    assert figures.p95(found) == expected


def test_one_goal_that_is_missed_is_an_exit_code(capsys: pytest.CaptureFixture[str]):
    assert goals.judge({"fast": (1.0, True), "cheap": (2.0, True)}) == 0
    assert goals.judge({"fast": (1.0, True), "cheap": (9.0, False)}) == 1
    assert goals.judge({"fast": (1.0, True)}, absolute={"a second": (9.0, False)}) == 0
    assert goals.judge({"fast": (1.0, False)}, absolute={"a second": (9.0, True)}) == 1
    assert "MISSED        9.00  cheap" in capsys.readouterr().out


def test_reports_of_several_processes_write_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(record.VARIABLE, str(tmp_path / "record"))
    assert list(record.read(tmp_path / "record")) == []
    script = (
        "import sys; from tools.benchmarks import record\n"
        "for n in range(200): record.write(n, attempt=1, run=sys.argv[1])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, run * 100], cwd=BASE_DIR, env=dict(os.environ)) for run in "abc"
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    lines = list(record.read(tmp_path / "record"))
    assert sorted((line.run[0], line.row) for line in lines) == [(run, n) for run in "abc" for n in range(200)]


def fired(*started: float, due: int = 2) -> Fired:
    return Fired(due, list(started), list(started), twice=0)


def test_a_firing_that_nobody_made_is_lost_and_not_kept_up_with():
    assert (fired(1.0, 2.0).lost, fired(1.0, 2.0).kept_up) == (0, True)
    assert (fired(1.0).lost, fired(1.0).kept_up) == (1, False)
    assert (fired().lost, fired().kept_up) == (2, False)


def test_who_begins_after_the_next_minute_has_not_kept_up():
    assert fired(1.0, 60.0).kept_up
    assert not fired(1.0, 60.1).kept_up


def test_the_summary_says_where_a_pattern_fails():
    kept, late, lost = fired(1.0, 2.0), fired(1.0, 90.0), fired(1.0)
    assert patterns._limit("queue", {100: kept}) == "queue    kept up with 100 reports at once; more were not tried"
    assert "with 100 reports at once, not with 200: the last began after 90 s" in patterns._limit(
        "cron", {100: kept, 200: late}
    )
    assert "with 0 reports at once, not with 100: 1 had not begun" in patterns._limit("cron", {100: lost})
    assert patterns._spread("cron", [fired(30.0), fired(2.0), fired()]).endswith("medians of 2 phases: 2.00 to 30.00 s")


def test_patterns_are_in_the_order_of_the_table_and_nothing_else_is_taken():
    assert patterns._patterns("cron,queue") == ["queue", "cron"]
    for text in ("", "queue,", "sometimes", "queue;cron"):
        with pytest.raises(ArgumentTypeError, match="is not one or several, with commas, of queue, polling, asset,"):
            patterns._patterns(text)


def test_a_backlog_is_compared_at_its_ends():
    claims = [backlog.Claimed(at=n, seconds=n / 1e3, rows=10) for n in range(100)]
    parts = backlog._parts(claims, 1_000)
    assert [len(part) for part in parts] == [10] * 10
    assert (backlog._largest(parts[0]), backlog._largest(parts[-1])) == (0.009, 0.099)


@pytest.mark.parametrize(
    ("after", "first"),
    [((9, 58, 59), (9, 59)), ((9, 59, 0), (10, 0)), ((23, 59, 59), (0, 0))],
)
def test_the_measured_minutes_begin_at_a_full_one_in_the_future(after: tuple[int, int, int], first: tuple[int, int]):
    instant = patterns._full_minute(datetime(2026, 11, 25, *after, 999, tzinfo=UTC).timestamp())
    assert (instant.hour, instant.minute, instant.second) == (*first, 0)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["python", "/venv/bin/gunicorn", "project.wsgi:application"], "web app"),
        (["python", "/venv/bin/dagster-daemon", "run", "-w", "workspace.yaml"], "daemon"),
        (["python", "-m", "dagster", "api", "grpc", "-m", "orchestrator.definitions"], "code server"),
        (["python", "-m", "dagster_reportqueue.warm", "7"], "warm server"),
        (["sleep", "7"], "others"),
    ],
)
def test_a_process_is_of_the_kind_that_its_command_says(command: list[str], kind: str):
    assert usage._kind(SimpleNamespace(cmdline=lambda: command)) == kind


def test_what_ended_processes_have_used_counts_with_the_parent_that_waited(monkeypatch: pytest.MonkeyPatch):
    times = SimpleNamespace(user=1.0, system=2.0, children_user=10.0, children_system=20.0)
    server, other = SimpleNamespace(cpu_times=lambda: times), SimpleNamespace(cpu_times=lambda: times)
    monkeypatch.setattr(usage, "_processes", lambda *_: [("warm server", server), ("web app", other)])
    used = usage.cpu_seconds(Path("data"), Path("cluster"))
    assert used == {"warm server": 3.0, "runs": 30.0, "web app": 33.0}


def test_a_commit_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BENCHMARK_FOLDER", str(tmp_path))
    with pytest.raises(ValueError, match="'no-such-commit' cannot be checked out"), trees.checked_out("no-such-commit"):
        pass


def test_costs_are_compared_round_by_round(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A machine that is slower in some rounds is so for both."""
    figures_of = iter([4.0, 2.0, 10.0, 20.0, 6.0, 3.0])  # now, before, before, now, now, before
    monkeypatch.setattr(cost, "measure", lambda *_: {"ms a report": next(figures_of)})
    chosen = Namespace(rounds=3, goal=1.05)
    ((goal, (ratio, holds)),) = cost._compare("batches", "abc", Path("other"), chosen).items()
    assert (ratio, holds) == (2.0, False)
    assert "of that of abc: at most 1.05" in goal
    assert "ms a report" in capsys.readouterr().out
