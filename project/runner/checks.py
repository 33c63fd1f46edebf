"""`run.py test` and `run.py lint`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from project.runner.postgres import EmbeddedPostgres
from project.runner.venv import ROOT

BIN = Path(sys.executable).parent


def test(pytest_arguments: list[str]) -> int:
    """Run pytest against `DATABASE_URL`, or else against a PostgreSQL that is thrown away; its exit code."""
    if "DATABASE_URL" in os.environ:
        return _run([sys.executable, "-m", "pytest", *pytest_arguments])
    with tempfile.TemporaryDirectory(prefix="reportqueue-test-") as folder:
        postgres = EmbeddedPostgres(Path(folder), durable=False)
        os.environ["DATABASE_URL"] = postgres.start()
        try:
            return _run([sys.executable, "-m", "pytest", *pytest_arguments])
        finally:
            postgres.stop()


def lint() -> int:
    """Run every check, also after one has failed; 1 if one has."""
    steps = {
        "ruff check": [str(BIN / "ruff"), "check", "."],
        "ruff format": [str(BIN / "ruff"), "format", "--check", "."],
        "mypy": [str(BIN / "mypy")],
        "import-linter": [str(BIN / "lint-imports"), "--config", "pyproject.toml"],
        # It also warns that no database is there to compare with, which is not what is asked here.
        "migrations": [
            *(sys.executable, "-W", "ignore::RuntimeWarning", "manage.py"),
            *("makemigrations", "--check", "--dry-run"),
        ],
    }
    failed = []
    for name, command in steps.items():
        print(f"--- {name}", flush=True)
        if _run(command):
            failed.append(name)
    print(f"lint: {'failed: ' + ', '.join(failed) if failed else 'all passed'}")
    return 1 if failed else 0


def _run(command: list[str]) -> int:
    """Run in the foreground; SIGTERM and Ctrl-C are passed on, so that what was set up around it is taken down."""
    process = subprocess.Popen(command, cwd=ROOT)

    def pass_on(number: int, frame: object) -> None:
        if number == signal.SIGTERM:  # Ctrl-C has reached the whole foreground group already
            process.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while process.poll() is None:
            time.sleep(0.1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return process.returncode
