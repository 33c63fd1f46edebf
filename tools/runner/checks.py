"""`run.py test`, `run.py lint` and `run.py chaos`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from project.environment import BASE_DIR
from tools.runner import stopping
from tools.runner.postgres import EmbeddedPostgres
from tools.runner.processes import POLL_SECONDS, ChildFailed, Children

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 30.0
"""How long a check that was asked to end may take: the acceptance tests take down what they have set up."""

WORKERS = 2
"""Processes for the tests that bear company; each has a database of its own."""
ALONE = ("tests/acceptance", "tests/chaos")
"""These start whole demos and time them: nothing else may run beside them."""
LONG = "tests/long"
"""These take many minutes each: `run.py test --long`."""


def test(pytest_arguments: list[str]) -> int:
    """Run pytest against `DATABASE_URL`, or else against a PostgreSQL that is thrown away; its exit code.

    Without arguments everything but what takes long, in two parts, also the second if the first fails; 1 if one has.
    `--long` runs what takes long.
    """
    if os.environ.get("DATABASE_URL"):
        return _pytest(pytest_arguments)
    folder = Path(tempfile.mkdtemp(prefix="reportqueue-test-"))
    children = Children(folder / "logs")
    postgres = EmbeddedPostgres(folder, children, durable=False)
    try:
        os.environ["DATABASE_URL"] = postgres.start()
        code = _pytest(pytest_arguments)
    except ChildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1  # the folder stays: the log is in it
    except stopping.Stopped:
        code = 130
    finally:
        children.stop_all(0, 0, 3.0)
        postgres.close()
    shutil.rmtree(folder, ignore_errors=True)
    return code


def chaos(minutes: int, seed: int | None, launcher: str, only: str | None) -> int:
    """Let everything break for a while; 0 if no report was lost, made twice, or got stuck. See `tests/chaos`."""
    chosen = [] if seed is None else ["--seed", str(seed)]
    chosen += [] if only is None else ["--only", only]
    chosen += ["--minutes", str(minutes), "--launcher", launcher]
    return run_in_foreground([sys.executable, "-m", "tools.chaos", *chosen])


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
        if run_in_foreground(command):
            failed.append(name)
        if stopping.noted() is not None:
            return 130
    print(f"lint: {'failed: ' + ', '.join(failed) if failed else 'all passed'}")
    return 1 if failed else 0


def _pytest(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest"]
    if "--long" in arguments:
        return run_in_foreground([*command, LONG, *(argument for argument in arguments if argument != "--long")])
    if arguments:
        return run_in_foreground([*command, *arguments])
    parts = {
        # Named by what it leaves out, so that a new folder is not forgotten. A file's tests share fixtures.
        f"tests in {WORKERS} processes": [
            *("-n", str(WORKERS), "--dist", "loadfile"),
            *(f"--ignore={folder}" for folder in (*ALONE, LONG)),
        ],
        "tests that run alone": list(ALONE),
    }
    failed = []
    for name, chosen in parts.items():
        print(f"--- {name}", flush=True)
        if run_in_foreground([*command, *chosen]):
            failed.append(name)
        if stopping.noted() is not None:
            return 130
    print(f"test: {'failed: ' + ', '.join(failed) if failed else 'all passed'}")
    return 1 if failed else 0


def run_in_foreground(command: list[str], *, stderr: IO[str] | None = None) -> int:
    """Run in the foreground, as a debugger needs it; its exit code, which is a shell's for what a signal has ended."""
    process = subprocess.Popen(command, cwd=BASE_DIR, stderr=stderr)
    until = None
    while process.poll() is None:
        if until is None and (number := stopping.noted()) is not None:
            until = time.monotonic() + PATIENCE_SECONDS
            # Ctrl-C has reached the whole foreground group already. Everything else becomes one: pytest then ends
            # its fixtures, where SIGTERM would end it at once.
            if number != signal.SIGINT:
                process.send_signal(signal.SIGINT)
        if until is not None and time.monotonic() > until:
            process.kill()
        time.sleep(POLL_SECONDS)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
