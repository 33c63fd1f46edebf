"""A plugin of pytest: tests that know one database use two. By `connection` and `transaction` they mean the queue's.

The app itself uses neither name: the linter refuses them (`banned-api` in pyproject.toml).
"""

from __future__ import annotations

from typing import Any

import pytest

QUEUE = "reports"
PROJECT = "default"
OF_THE_PROJECT = ("test_admin_tokens.py", "test_import_schedules.py", "test_tokens.py")
"""Tests of tables of the project or of the users: they mean that database."""
OF_ONE = (
    "test_the_list_takes_the_same_queries",
    "test_each_row_costs_the_same_few_queries",
    "test_a_forgotten_lock_leaves_the_web_app",
    "test_a_web_app_that_is_told_to_stop",
    "test_the_tests_of_the_page_pass",
)
"""They count the statements of both in one, or start a web app or tests that know one database."""
USES = {"db", "transactional_db", "live_server"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every test that uses a database use both."""
    for item in items:
        marker = item.get_closest_marker("django_db")
        if marker is not None or USES.intersection(getattr(item, "fixturenames", ())):
            given: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
            item.add_marker(pytest.mark.django_db(**{**given, "databases": "__all__"}), append=False)
        # Threads that know one database close the connection to that one.
        item.add_marker(pytest.mark.filterwarnings("ignore:Exception ignored in. <function BaseConnection.__del__"))
        if item.name.startswith(OF_ONE):
            item.add_marker(pytest.mark.skip(reason="it is about one database"))


@pytest.fixture(autouse=True)
def _the_database_is_meant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that name no database mean the queue's, or the project's."""
    import django.db
    from django.db import transaction

    alias = PROJECT if request.path.name in OF_THE_PROJECT else QUEUE
    monkeypatch.setitem(django.db.connection.__dict__, "_alias", alias)
    monkeypatch.setattr(transaction, "DEFAULT_DB_ALIAS", alias)
