"""A plugin of pytest: tests that know one database use two. `connection` and `transaction` mean the queue's to them.

The app itself uses neither name: the linter refuses them (`banned-api` in pyproject.toml).
"""

from __future__ import annotations

from typing import Any

import pytest

ALIAS = "reports"
USES = {"db", "transactional_db", "live_server", "_django_db_helper"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every test that uses a database use both."""
    for item in items:
        marker = item.get_closest_marker("django_db")
        if marker is not None or USES.intersection(getattr(item, "fixturenames", ())):
            given: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
            item.add_marker(pytest.mark.django_db(**{**given, "databases": "__all__"}), append=False)


@pytest.fixture(scope="session", autouse=True)
def _the_queues_database_is_meant() -> None:
    """Tests that name no database mean the queue's."""
    import django.db
    from django.db import transaction

    django.db.connection.__dict__["_alias"] = ALIAS
    transaction.DEFAULT_DB_ALIAS = ALIAS
