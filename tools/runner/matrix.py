"""`run.py matrix`: the tests on other versions of Python, Django, Dagster and PostgreSQL, one environment a cell.

A cell installs what the package's own ranges allow, the lowest or the highest versions, beside the tools of the tests.
Environments are kept in `.matrix/`; uv links the files of packages there from its cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import psycopg

from project.environment import BASE_DIR
from tools.runner import checks, stop_signals
from tools.runner.cells import CELLS, Cell
from tools.runner.environments import UvFailed, uv
from tools.runner.postgres import EMBEDDED_VERSION, installed_programs
from tools.runner.venv import clean_environment

PYENV = Path.home() / ".pyenv" / "versions"
TESTS = ["tests/unit", "tests/integration", "tests/dagster_reportqueue"]
QUICK = [
    "tests/unit/test_cron_expressions.py",
    "tests/integration/test_admin_content_policy.py",
    "tests/integration/test_checks.py",
    "tests/integration/test_webhooks.py",
    "tests/dagster_reportqueue/test_launcher_contract.py",
    "tests/dagster_reportqueue/test_ticks.py",
]
"""What `--quick` runs: something of each dependency."""
SHOWN = ("django", "djangorestframework", "psycopg", "dagster")
"""The packages whose versions the table shows."""


class CellSkipped(Exception):
    """This machine does not have what the cell needs; the message says what."""


class Result(NamedTuple):
    """What became of a cell: the versions, the tests, and its exit code."""

    cell: Cell
    python: str
    postgres: str
    versions: dict[str, str]
    tests: str
    seconds: float
    code: int

    def line(self) -> str:
        """A line of the table."""
        packages = [self.versions.get(name, "") for name in SHOWN]
        return "| " + " | ".join([self.cell.name, self.python, *packages, self.postgres, self.tests]) + " |"


def run(chosen: argparse.Namespace) -> int:
    """Run the cells that this machine can run, and print the table; returns 0 only if all of them passed."""
    if chosen.list:
        return _list()
    cells = [cell for cell in CELLS if not chosen.cell or cell.name in chosen.cell]
    results: list[Result] = []
    skipped: list[str] = []
    for number, cell in enumerate(cells, 1):
        _say(f"{cell.name}, cell {number} of {len(cells)}")
        try:
            results.append(_run_cell(cell, chosen.pytest or (QUICK if chosen.quick else TESTS)))
        except CellSkipped as reason:
            _say(f"{cell.name} is skipped: {reason}")
            skipped.append(f"`{cell.name}` was skipped: {reason}")
        except UvFailed as error:
            print(f"error: {cell.name}: {error}", file=sys.stderr)
            results.append(Result(cell, cell.python, str(cell.postgres), {}, "could not be installed", 0, 1))
        except stop_signals.Stopped:
            return 130
        if stop_signals.noted() is not None:
            return 130
    print("\n".join(_table(results, skipped)), flush=True)
    return 1 if not results or any(result.code for result in results) else 0


def _list() -> int:
    for cell in CELLS:
        try:
            _needs(cell)
            state = "can run here"
        except CellSkipped as reason:
            state = f"cannot run here: {reason}"
        pins = f", {', '.join(cell.pins)}" if cell.pins else ""
        versions = "lowest" if cell.lowest else "highest"
        print(f"{cell.name}: Python {cell.python}, PostgreSQL {cell.postgres}, {versions} versions{pins}; {state}")
    return 0


def _table(results: list[Result], skipped: list[str]) -> Iterator[str]:
    yield "| cell | Python | Django | REST framework | psycopg | Dagster | PostgreSQL | tests |"
    yield "|---|---|---|---|---|---|---|---|"
    yield from (result.line() for result in results)
    if skipped:
        yield ""
        yield from skipped


def _needs(cell: Cell) -> tuple[Path, Path | None]:
    """The interpreter and the programs of PostgreSQL, None for the embedded ones. Raises `CellSkipped`."""
    interpreter = _find_python(cell.python)
    if interpreter is None:
        raise CellSkipped(f"Python {cell.python} is not installed")
    if cell.postgres == EMBEDDED_VERSION:
        return interpreter, None
    programs = installed_programs(cell.postgres)
    if programs is None:
        raise CellSkipped(f"PostgreSQL {cell.postgres} is not installed")
    return interpreter, programs


def _find_python(version: str) -> Path | None:
    """An interpreter of this version: on PATH, or one of pyenv's."""
    places = [Path(found)] if (found := shutil.which(f"python{version}")) else []
    places += [home / "bin" / "python" for home in sorted(PYENV.glob(f"{version}.*"))]
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    for place in places:
        done = subprocess.run([place, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:  # a shim of pyenv may stand for no interpreter
            return place
    return None


def _run_cell(cell: Cell, tests: list[str]) -> Result:
    interpreter, programs = _needs(cell)
    began = time.monotonic()
    _install(cell, interpreter)
    _say(f"{cell.name}: installed after {time.monotonic() - began:.0f} s; the tests begin")
    began = time.monotonic()
    report = cell.home / "report.xml"
    report.unlink(missing_ok=True)
    servers: list[str] = []

    def test() -> int:
        servers.append(_server_version())
        return checks.run_in_foreground(_pytest(cell, tests, report), environment=clean_environment())

    code = checks.on_temporary_postgres(test, programs)
    python, versions = _versions(cell)
    taken = time.monotonic() - began
    counted = _counts(report)
    _say(f"{cell.name}: {counted} in {taken:.0f} s")
    return Result(cell, python, servers[0] if servers else str(cell.postgres), versions, counted, taken, code)


def _install(cell: Cell, interpreter: Path) -> None:
    """Make the environment, or bring it up to date. Raises `UvFailed`."""
    cell.home.mkdir(parents=True, exist_ok=True)
    if not cell.interpreter.exists():
        uv("venv", "--quiet", "--clear", "--python", str(interpreter), str(cell.home / "venv"))
    pins, chosen = cell.home / "pins.txt", cell.home / "requirements.txt"
    pins.write_text("".join(f"{pin}\n" for pin in cell.pins))
    project = str(BASE_DIR / "pyproject.toml")
    # The demo's packages are among them: dagster-postgres decides which dagster can be installed. The tools of the
    # tests are not: the lowest versions are those of the package.
    uv(
        *("pip", "compile", "--quiet", "--upgrade", "--no-header", "--python", str(cell.interpreter)),
        *("--resolution", "lowest-direct" if cell.lowest else "highest", "--constraint", str(pins)),
        *("--extra", "django", "--extra", "dagster", "--extra", "openapi"),
        *("--group", "project", project, "--output-file", str(chosen)),
    )
    uv(
        *("pip", "install", "--quiet", "--exact", "--python", str(cell.interpreter), "--requirement", str(chosen)),
        *("--group", f"{project}:test"),
    )


def _pytest(cell: Cell, tests: list[str], report: Path) -> list[str]:
    options = ["-q", "-n", str(checks.WORKERS), "--dist", "loadfile", "-m", f"not {checks.LONG}"]
    # Old versions warn of their newer neighbours.
    options += ["-W", "default"] if cell.lowest else []
    return [str(cell.interpreter), "-m", "pytest", *options, f"--junitxml={report}", *tests]


def _server_version() -> str:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        return f"{connection.info.server_version // 10_000}.{connection.info.server_version % 10_000}"


def _versions(cell: Cell) -> tuple[str, dict[str, str]]:
    code = (
        "import json, platform; from importlib.metadata import version; "
        f"print(json.dumps([platform.python_version(), {{name: version(name) for name in {SHOWN!r}}}]))"
    )
    done = subprocess.run([cell.interpreter, "-c", code], capture_output=True, text=True, check=True)
    python, versions = json.loads(done.stdout)
    return python, versions


def _counts(report: Path) -> str:
    """Such as `120 passed, 3 skipped`."""
    if not report.exists():
        return "no test ran"
    total = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314  # pytest has just written it
        for name in total:
            total[name] += int(suite.get(name, 0))
    failed = total["failures"] + total["errors"]
    passed = total["tests"] - failed - total["skipped"]
    parts = [f"{passed:,} passed"]
    parts += [f"{failed:,} failed"] if failed else []
    parts += [f"{total['skipped']:,} skipped"] if total["skipped"] else []
    return ", ".join(parts)


def _say(text: str) -> None:
    print(f"--- {text}", flush=True)
