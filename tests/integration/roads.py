"""Tests with settings that are read once, in a process and databases of their own: `tests/<name>/*road.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from project.environment import BASE_DIR
from tests.integration.test_enqueue_due_reports import database_url


def take_road(name: str) -> None:
    """Run the road of `tests/<name>`; all of it must pass."""
    roads = sorted(str(path) for path in (BASE_DIR / "tests" / name).glob("*road.py"))
    run_with_settings_of(name, "-p", "no:cacheprovider", "-p", "no:xdist", *roads)


def run_with_settings_of(name: str, *arguments: str, seconds: float = 200) -> None:
    """Run pytest with `tests/<name>/settings.py`, on the server of the tests' database; all tests must pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", f"--ds=tests.{name}.settings", "-q", *arguments],
        cwd=BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url()},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert re.search(r"^[0-9]+ passed", done.stdout, re.MULTILINE)
