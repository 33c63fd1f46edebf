"""`run.py demo --once` with the patterns that `tests/acceptance` leaves out, each on the data of the one before."""

from pathlib import Path

import pytest

from tests.acceptance.conftest import StartDemo
from tests.acceptance.test_demo_once import make_once

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("pattern", ["cron", "polling", "queue"])
def test_once_makes_every_report_whoever_fires(start_demo: StartDemo, folder: Path, pattern: str):
    make_once(start_demo, folder, pattern)
