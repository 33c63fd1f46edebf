"""What a test has committed is deleted after it, from the tables that have rows.

Django would truncate all tables and make all permissions again: a sixth of the suite's time.
"""

from __future__ import annotations

from functools import cache

from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

KEPT = ("auth_permission", "django_content_type")
"""Tables that are the same for all tests: `migrate` has filled them."""
UNDELETABLE = ("reportqueue_auditentry",)
"""A trigger refuses to delete its rows."""
SMALL_BYTES = 64 * 1024
"""A larger table is truncated: what was deleted stays in it for a while, and the next test would read past it."""
_kept: dict[str, str] = {}
"""What the kept tables had in them, by database."""


def empty(alias: str) -> None:
    """Delete all rows but those of the kept tables; Django's way if a test has changed these."""
    connection = connections[alias]
    name = str(connection.settings_dict["NAME"])
    tables = _tables(alias, name)
    kept = [table for table in tables if table in KEPT]
    parts = [
        f"SELECT '{table}', pg_relation_size('{table}') WHERE EXISTS (SELECT FROM {table})"  # noqa: S608
        for table in tables
        if table not in KEPT
    ]
    with connection.cursor() as cursor:
        digest = _digest(cursor, kept)
        if _kept.setdefault(name, digest) != digest:
            call_command("flush", verbosity=0, interactive=False, database=alias)
            _kept[name] = _digest(cursor, kept)
            return
        cursor.execute(" UNION ALL ".join(parts))
        sizes = dict(cursor.fetchall())
        large = [table for table, size in sizes.items() if size > SMALL_BYTES or table in UNDELETABLE]
        statements = [f"DELETE FROM {table}" for table in sizes if table not in large]  # noqa: S608
        if large:
            statements.insert(0, f"TRUNCATE {', '.join(large)} CASCADE")
        if statements:
            # One transaction: foreign keys are checked at its end.
            cursor.execute("; ".join(statements))


@cache
def _tables(alias: str, name: str) -> list[str]:
    """The tables of the models that are in this database."""
    connection: BaseDatabaseWrapper = connections[alias]
    return sorted(connection.introspection.django_table_names(only_existing=True, include_views=False))


def _digest(cursor: CursorWrapper, tables: list[str]) -> str:
    rows = (f"(SELECT string_agg(one::text, ' ' ORDER BY id) FROM {table} AS one)" for table in tables)  # noqa: S608
    cursor.execute(f"SELECT md5(concat('', {', '.join(rows) or 'NULL'}))")
    return str(cursor.fetchone()[0])
