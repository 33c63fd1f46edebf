"""What `run.py` ends with is what it ran has ended with."""

import signal
import sys

import pytest

from tools.runner.checks import run_in_foreground


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(2)", 2),
        (f"import os; os.kill(os.getpid(), {signal.SIGKILL:d})", 128 + signal.SIGKILL),
        (f"import os; os.kill(os.getpid(), {signal.SIGINT:d})", 128 + signal.SIGINT),
    ],
)
def test_the_exit_code_is_a_shells(script: str, code: int):
    assert run_in_foreground([sys.executable, "-c", script]) == code
