"""`run.py matrix` for real: a small part of the tests on the lowest and on the highest versions."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.acceptance.demos import ROOT, clean_environment

PART = [
    *("-n", "0"),
    "tests/unit/test_cron_expressions.py",
    "tests/integration/test_checks.py",
    "tests/dagster_reportqueue/test_ticks.py",
]
"""For the sake of time, something of each side in one process: `run.py matrix` runs all tests."""
pytestmark = pytest.mark.timeout(900)  # an installation takes long on a busy machine


@pytest.mark.parametrize("cell", ["lowest", "newest"])
def test_a_part_passes_on_the_ends_of_the_ranges(cell: str):
    done = subprocess.run(
        [sys.executable, "run.py", "matrix", "--cell", cell, "--", *PART],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    if skipped := re.search(rf"^`{cell}` was skipped: (.*)$", done.stdout, re.MULTILINE):
        pytest.skip(skipped[1])
    assert done.returncode == 0, f"{done.stdout[-8_000:]}{done.stderr[-2_000:]}"
    assert re.search(rf"^\| {cell} \|.*\| [1-9]\d+ passed(, \d+ skipped)? \|$", done.stdout, re.MULTILINE), done.stdout
