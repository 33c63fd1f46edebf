"""The app in a project whose settings are allowed and rare; docs/supported.md lists them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from project.environment import BASE_DIR
from tests.integration.test_enqueue_due_reports import database_url


def test_the_road_of_a_report_with_unusual_settings(db: None):
    """In a process of its own, as most of these settings are read once."""
    options = ["--ds=tests.unusual.settings", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/unusual/road.py"],
        cwd=BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url()},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert re.search(r"^[0-9]+ passed", done.stdout, re.MULTILINE)
