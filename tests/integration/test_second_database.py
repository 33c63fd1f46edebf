"""The queue in a database of its own: a project with the shipped router, and this folder's tests once more."""

from __future__ import annotations

import pytest

from tests.integration.roads import run_with_settings_of, take_road

HAVE_THEIR_OWN = ("test_checks.py", "test_connection_pool.py", "test_custom_user.py", "test_second_database.py")
"""These set the databases themselves. tests/acceptance/test_second_database.py has both behind PgBouncer."""


def test_the_road_of_a_queue_in_a_database_of_its_own(db: None):
    take_road("own_database")


@pytest.mark.timeout(2_400)
def test_what_holds_in_one_database_holds_in_two(db: None):
    left_out = [f"--ignore=tests/integration/{name}" for name in HAVE_THEIR_OWN]
    options = ["-p", "tests.second_database.plugin", "-m", "not long", "-n", "2", "--dist", "loadfile"]
    run_with_settings_of("second_database", *options, *left_out, "tests/integration", seconds=2_300)
