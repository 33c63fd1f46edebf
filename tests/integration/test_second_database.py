"""The queue in a database of its own: a project with the shipped router, and this folder's tests once more."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from project.environment import BASE_DIR
from tests.integration.roads import take_road
from tests.integration.test_enqueue_due_reports import database_url

HAVE_THEIR_OWN = ("test_checks.py", "test_custom_user.py", "test_second_database.py")
"""These set the databases themselves."""


def test_the_road_of_a_queue_in_a_database_of_its_own(db: None):
    take_road("own_database")


@pytest.mark.timeout(2_400)
def test_what_holds_in_one_database_holds_in_two(db: None):
    options = ["--ds=tests.second_database.settings", "-p", "tests.second_database.plugin", "-q", "-m", "not long"]
    left_out = [f"--ignore=tests/integration/{name}" for name in HAVE_THEIR_OWN]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *left_out, "-n", "2", "--dist", "loadfile", "tests/integration"],
        cwd=BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url()},
        capture_output=True,
        text=True,
        timeout=2_300,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert re.search(r"^[0-9]+ passed", done.stdout, re.MULTILINE)
