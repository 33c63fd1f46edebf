"""A short chaos in the test suite; `run.py chaos` is the long one."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from project.environment import BASE_DIR
from tools.chaos import points, report

CHAOS = [sys.executable, "-m", "tools.chaos"]
STOP_SECONDS = 40


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("options", "wave"),
    [("--minutes 0.3 --only crashes", points.CRASHES), ("--minutes 1", None)],
    ids=["crashes", "all"],
)
def test_no_report_is_lost_made_twice_or_stuck_whatever_dies(options: str, wave: str | None):
    command = [*CHAOS, *options.split()]
    process = subprocess.Popen(command, cwd=BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = process.communicate(timeout=540)
    finally:
        _end(process)
    assert process.returncode == 0, said
    assert all(point in said for point in points.reached(points.HARNESS, wave)), said
    assert report.NEVER_REACHED not in said


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to end, as it takes its own processes down; a chaos that has ended needs nothing."""
    if process.poll() is not None:
        return
    left = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in left:
        if one.is_running():
            one.kill()
