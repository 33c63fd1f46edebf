"""The project's app: its tables are in a schema of their own."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


def create_schema(connection: Any, **_: Any) -> None:
    """Create the schema that comes first on the search path."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS their_schema")


class UnusualConfig(AppConfig):
    """Connects the creation of the schema."""

    name = "unusual"

    def ready(self) -> None:
        """Before the first statement."""
        connection_created.connect(create_schema)
