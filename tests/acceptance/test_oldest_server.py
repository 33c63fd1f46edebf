"""The statements that are written in SQL, on the oldest PostgreSQL that is supported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from reportqueue.checks import OLDEST_SERVER
from tests.acceptance.demos import ROOT, clean_environment
from tools.runner.postgres import installed_programs

IN_SQL = [
    f"tests/integration/{name}.py"
    for name in (
        "test_api_reports",  # the feed of the sensors
        "test_claim",  # claiming and acknowledging
        "test_handovers",  # ranges
        "test_turns",  # firings in bulk
    )
]
"""A sample, for the sake of time: `run.py test --oldest tests/integration` runs them all."""
pytestmark = pytest.mark.timeout(900)


@pytest.mark.skipif(
    installed_programs(OLDEST_SERVER) is None,
    reason=f"PostgreSQL {OLDEST_SERVER} is not installed; on Debian: apt-get install postgresql-{OLDEST_SERVER}",
)
def test_the_statements_in_sql_run_on_the_oldest_server():
    done = subprocess.run(
        [sys.executable, "run.py", "test", "--oldest", "-q", "-x", *IN_SQL],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-8_000:]}{done.stderr[-2_000:]}"
    assert f"--- PostgreSQL of {installed_programs(OLDEST_SERVER)}" in done.stdout
    assert re.search(r"\d{3,} passed", done.stdout)


def test_the_readme_names_the_oldest_server():
    assert f"PostgreSQL {OLDEST_SERVER} or later" in (ROOT / "README.md").read_text()
