"""`run.py test`, `run.py lint`, `run.py simulate`, `run.py chaos`, `run.py screenshots` and `run.py docs`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from project.environment import BASE_DIR
from tools.runner import stop_signals
from tools.runner.postgres import EmbeddedPostgres, installed_programs
from tools.runner.processes import POLL_SECONDS, ChildFailed, Children

BIN = Path(sys.executable).parent
STOP_SECONDS = 30.0
"""How long a check may take to end after a signal: the acceptance tests tear down what they have set up."""
WORKERS = 3
"""Processes for the tests that may run in parallel; each has its own database."""
ALONE = ("tests/acceptance", "tests/chaos", "tests/simulator")
"""These tests start whole demos and time them, or use all processors: nothing else may run at the same time."""
STEADY = {"autovacuum": "off"}
"""What a temporary server knows of its tables is what a test has it analyse, not what other tests had in them."""
SLOWEST = ("--durations=25", "--durations-min=5")
"""What a whole run says of its tests: those to look at when it takes too long."""
LONG = "long"
"""The marker of the tests that take long: `run.py test --long`. tests/conftest.py lists them."""
OLDEST = "tests/integration"
"""What `run.py test --oldest` runs, unless it is told which tests: those of what is done in the database."""


def test(pytest_arguments: list[str]) -> int:
    """Run pytest with `DATABASE_URL`, or with a temporary PostgreSQL; return the exit code.

    Without arguments, all tests except the long ones run, in two parts. The second part runs even if the first fails,
    and the exit code is 1 if one has failed. `--long` runs the long tests. `--oldest` runs tests on the oldest
    PostgreSQL that is supported.
    """
    programs = None
    if "--oldest" in pytest_arguments:
        from reportqueue.checks import OLDEST_SERVER  # the other commands need no Django

        if (programs := installed_programs(OLDEST_SERVER)) is None:
            remedy = f"on Debian: apt-get install postgresql-{OLDEST_SERVER}"
            print(f"error: PostgreSQL {OLDEST_SERVER} is not installed; {remedy}", file=sys.stderr)
            return 1
        pytest_arguments = [argument for argument in pytest_arguments if argument != "--oldest"]
        if not any(argument.startswith("tests") for argument in pytest_arguments):
            pytest_arguments.append(OLDEST)
        print(f"--- PostgreSQL of {programs}", flush=True)
    elif os.environ.get("DATABASE_URL"):
        return _pytest(pytest_arguments)
    return on_temporary_postgres(lambda: _pytest(pytest_arguments), programs)


def on_temporary_postgres(run: Callable[[], int], programs: Path | None = None) -> int:
    """Call `run` with the `DATABASE_URL` of a temporary server of these programs, or of the embedded one.

    Returns the exit code of `run`; 1 if the server failed, 130 after a signal.
    """
    folder = Path(tempfile.mkdtemp(prefix="reportqueue-test-"))
    children = Children(folder / "logs")
    postgres = EmbeddedPostgres(folder, children, durable=False, programs=programs, settings=STEADY)
    before = os.environ.get("DATABASE_URL")
    try:
        os.environ["DATABASE_URL"] = postgres.start()
        code = run()
    except ChildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1  # the folder stays: the log is in it
    except stop_signals.Stopped:
        code = 130
    finally:
        os.environ.pop("DATABASE_URL", None)
        if before is not None:
            os.environ["DATABASE_URL"] = before
        children.stop_all(0, 0, 3.0)
        postgres.close()
    shutil.rmtree(folder, ignore_errors=True)
    return code


def chaos(minutes: int, seed: int | None, engine: str, only: str | None, *, capped: bool) -> int:
    """Break things for a while; returns 0 if no report was lost, made twice or stuck. See `tools/chaos`."""
    chosen = [] if seed is None else ["--seed", str(seed)]
    chosen += [] if only is None else ["--only", only]
    chosen += ["--caps"] if capped else []
    chosen += ["--minutes", str(minutes), "--engine", engine]
    return run_in_foreground([sys.executable, "-m", "tools.chaos", *chosen])


def simulate(arguments: argparse.Namespace) -> int:
    """Play scenarios in virtual time; returns 0 if nothing was lost, twice, stuck or silent. See `tools/simulator`."""
    chosen = ["--faults", str(arguments.faults)]
    for name in ("seed", "scenario", "put_back"):
        if (value := getattr(arguments, name)) is not None:
            chosen += [f"--{name.replace('_', '-')}", str(value)]
    chosen += ["--keep-going"] if arguments.keep_going else []
    return run_in_foreground([sys.executable, "-m", "tools.simulator", *chosen])


def screenshots(options: list[str]) -> int:
    """Take a picture of each page of the admin; returns 0 if every page could be shown. See `tools/screenshots`."""
    command = [sys.executable, "-m", "tools.screenshots", *options]
    return on_temporary_postgres(lambda: run_in_foreground(command, environment={**os.environ, "DEBUG": "1"}))


def docs(options: list[str]) -> int:
    """Build the documentation's site; returns 0 if it is whole. See `tools/docs`."""
    return run_in_foreground([sys.executable, "-m", "tools.docs", *options])


def lint() -> int:
    """Run every check, also after one has failed; returns 1 if one has."""
    steps = {
        "ruff check": [str(BIN / "ruff"), "check", "."],
        "ruff format": [str(BIN / "ruff"), "format", "--check", "."],
        "mypy": [str(BIN / "mypy")],
        "import-linter": [str(BIN / "lint-imports"), "--config", "pyproject.toml"],
        # Ignore its warning that there is no database to compare with.
        "migrations": [
            *(sys.executable, "-W", "ignore::RuntimeWarning", "manage.py"),
            *("makemigrations", "--check", "--dry-run", "--settings", "tests.settings"),
        ],
        "migrations on a running system": [sys.executable, "-m", "tools.migration_lint"],
    }
    failed = []
    for name, command in steps.items():
        print(f"--- {name}", flush=True)
        if run_in_foreground(command):
            failed.append(name)
        if stop_signals.noted() is not None:
            return 130
    print(f"lint: {'failed: ' + ', '.join(failed) if failed else 'all passed'}")
    return 1 if failed else 0


def _pytest(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pytest"]
    if "--long" in arguments:
        return run_in_foreground([*command, "-m", LONG, *(argument for argument in arguments if argument != "--long")])
    if arguments:
        return run_in_foreground([*command, *arguments])
    parts = {
        # Exclude folders instead of listing them, so that no new one is forgotten. The tests of a file share fixtures.
        f"tests in {WORKERS} processes": [
            *("-n", str(WORKERS), "--dist", "loadfile", "-m", f"not {LONG}"),
            *(f"--ignore={folder}" for folder in ALONE),
        ],
        "tests that run alone": ["-m", f"not {LONG}", *ALONE],
    }
    failed = []
    for name, chosen in parts.items():
        print(f"--- {name}", flush=True)
        if run_in_foreground([*command, *SLOWEST, *chosen]):
            failed.append(name)
        if stop_signals.noted() is not None:
            return 130
    print(f"test: {'failed: ' + ', '.join(failed) if failed else 'all passed'}")
    return 1 if failed else 0


def run_in_foreground(
    command: list[str], *, stderr: IO[str] | None = None, environment: dict[str, str] | None = None
) -> int:
    """Run in the foreground, as a debugger needs; returns the exit code, as in a shell 128 + N for a signal N."""
    process = subprocess.Popen(command, cwd=BASE_DIR, stderr=stderr, env=environment)
    until = None
    while process.poll() is None:
        if until is None and (number := stop_signals.noted()) is not None:
            until = time.monotonic() + STOP_SECONDS
            # Ctrl-C has already reached the whole foreground group. Other signals are sent on as SIGINT: pytest then
            # tears down its fixtures, which it would not do after SIGTERM.
            if number != signal.SIGINT:
                process.send_signal(signal.SIGINT)
        if until is not None and time.monotonic() > until:
            process.kill()
        time.sleep(POLL_SECONDS)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
