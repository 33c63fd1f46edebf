"""The matrix of versions: its cells, its table, and the page that shows it."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

import pytest

from project.environment import BASE_DIR
from tools.runner import arguments, environments, matrix
from tools.runner.cells import CELLS, Cell

PAGE = (BASE_DIR / "docs" / "supported.md").read_text()
PROJECT = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]
REPORT = """<testsuites><testsuite tests="1234" failures="1" errors="2" skipped="30"/></testsuites>"""


def result(cell: Cell, code: int = 0) -> matrix.Result:
    return matrix.Result(cell, "3.11.7", "15.4", {"django": "5.2", "dagster": "1.12.0"}, "10 passed", 12.0, code)


def run(monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, object], *names: str) -> int:
    """`run.py matrix` of these cells, each of which ends as told."""

    def ended(cell: Cell, tests: list[str]) -> matrix.Result:
        outcome = outcomes[cell.name]
        if isinstance(outcome, Exception):
            raise outcome
        return result(cell, int(str(outcome)))

    monkeypatch.setattr(matrix, "_run_cell", ended)
    return matrix.run(argparse.Namespace(list=False, quick=False, cell=list(names), pytest=[]))


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ({"lowest": 0, "newest": 0}, 0),
        ({"lowest": 0, "newest": 1}, 1),
        ({"lowest": 0, "newest": matrix.CellSkipped("Python 3.13 is not installed")}, 0),
        ({"lowest": 0, "newest": environments.UvFailed("no such version")}, 1),
        ({"lowest": matrix.CellSkipped("PostgreSQL 15 is not installed")}, 1),
    ],
    ids=["all passed", "one failed", "one skipped", "one not installed", "none ran"],
)
def test_it_succeeds_only_if_cells_ran_and_all_of_them_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcomes: dict[str, object], code: int
):
    assert run(monkeypatch, outcomes, *outcomes) == code
    printed = capsys.readouterr().out
    for name, outcome in outcomes.items():
        if isinstance(outcome, matrix.CellSkipped):
            assert f"`{name}` was skipped: {outcome}" in printed
        else:
            assert f"| {name} |" in printed


def test_the_counts_are_those_of_pytests_report(tmp_path: Path):
    report = tmp_path / "report.xml"
    assert matrix._counts(report) == "no test ran"
    report.write_text(REPORT)
    assert matrix._counts(report) == "1,201 passed, 3 failed, 30 skipped"


def test_an_interpreter_that_does_not_start_is_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """pyenv puts such programs on PATH."""
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(matrix, "PYENV", tmp_path)
    assert matrix._find_python("3.11") is None


def test_arguments_after_the_dashes_go_to_pytest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["run.py", "matrix", "--cell", "lowest", "--", "tests/unit", "-k", "cron"])
    chosen = arguments.parse()
    assert (chosen.cell, chosen.pytest) == (["lowest"], ["tests/unit", "-k", "cron"])


def test_every_python_of_the_metadata_has_a_cell():
    said = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    assert said <= {cell.python for cell in CELLS}
    assert PROJECT["requires-python"] == f">={min(said, key=lambda text: int(text[2:]))}"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_page_says_what_became_of_each_cell(cell: Cell):
    assert re.search(rf"^(\| {re.escape(cell.name)} \|.* passed|`{re.escape(cell.name)}` was skipped: )", PAGE, re.M)


def test_the_page_has_the_table_that_is_printed():
    header = next(matrix._table([], []))
    assert header in PAGE
    (lowest,) = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| lowest |")]
    bounds = {text.partition(">=")[0]: text.partition(">=")[2] for text in PROJECT["optional-dependencies"]["django"]}
    shown = dict(zip(header.strip("| ").split(" | "), lowest, strict=True))
    assert shown["Django"] == bounds["Django"]
    assert shown["REST framework"] == bounds["djangorestframework"]
