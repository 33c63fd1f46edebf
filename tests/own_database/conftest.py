"""The road's fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections


@pytest.fixture(autouse=True, scope="session")
def no_connection_stays(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The web server's threads end when their clients have gone: the databases could not be dropped meanwhile."""
    yield
    with django_db_blocker.unblock():
        for one in connections.all():
            with one.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
