"""The app's databases: which of `DATABASES` has the queue and which has the API tokens, and transactions there.

The project's routers decide. All tables are in one database, the queue's, but for that of the API tokens: it has a
foreign key to the users, so it is in the users' database. Without routers, both are `default`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import psycopg
from django.apps import apps
from django.core.exceptions import EmptyResultSet
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from psycopg.errors import UndefinedColumn, UndefinedTable

APP = "reportqueue"
NOT_MIGRATED = (
    "The database lacks a table or a column of reportqueue: run manage.py check, then manage.py migrate. /readyz says "
    "which tables it lacks."
)


def alias() -> str:
    """The alias of the queue's database."""
    return router.db_for_write(apps.get_model(APP, "ReportQueue"))


def users_alias() -> str:
    """The alias of the database of the API tokens, which is the users'."""
    return router.db_for_write(apps.get_model(APP, "ApiToken"))


def connection(using: str | None = None) -> BaseDatabaseWrapper:
    """This thread's connection to the queue's database, or to the one with the alias `using`."""
    return connections[using or alias()]


def atomic(using: str | None = None) -> transaction.Atomic:
    """A transaction in the queue's database, or in the one with the alias `using`; inside the caller's, a savepoint."""
    return transaction.atomic(using=using or alias())


@contextmanager
def quick(seconds: float, using: str | None = None, *, ordered: bool = False) -> Iterator[None]:
    """A transaction with a time limit for each statement, such as for a probe: a locked table must not hold it.

    `ordered` is that of `in_index_order`. In the caller's transaction, later statements have what they had before.
    """
    wanted = {"statement_timeout": f"{round(seconds * 1000)}ms"}
    with _with_settings(wanted | (IN_ORDER if ordered else {}), using):
        if not ordered:
            yield
            return
        before = _in_order.set(True)
        try:
            yield
        finally:
            _in_order.reset(before)


@contextmanager
def in_index_order() -> Iterator[None]:
    """A transaction in which PostgreSQL sorts no rows that an index has in order, whatever the statistics say."""
    with nullcontext() if _in_order.get() else _with_settings(IN_ORDER):
        yield


# A step that is switched off, but needed, counts as a very long one. PostgreSQL would compile the statement for it.
IN_ORDER = {"enable_sort": "off", "jit": "off"}
"""PostgreSQL's settings in a transaction that sorts no rows which an index has in order."""
_in_order = ContextVar("in_order", default=False)
"""Whether `quick` has seen to it already."""


@contextmanager
def _with_settings(wanted: Mapping[str, str], using: str | None = None) -> Iterator[None]:
    """A transaction with these settings of PostgreSQL; in the caller's, later statements have those from before."""
    inside = connection(using).in_atomic_block
    with atomic(using):
        with connection(using).cursor() as cursor:
            each = ", ".join(["current_setting(%s), set_config(%s, %s, true)"] * len(wanted))
            cursor.execute(f"SELECT {each}", [text for name in wanted for text in (name, name, wanted[name])])
            before = dict(zip(wanted, cursor.fetchone()[::2], strict=True))
        yield
        if inside:  # an error needs none: the savepoint is rolled back, with the settings
            with connection(using).cursor() as cursor:
                each = ", ".join(["set_config(%s, %s, true)"] * len(before))
                cursor.execute(f"SELECT {each}", [text for pair in before.items() for text in pair])


def is_direct(connected: psycopg.Connection[Any]) -> bool:
    """Whether no connection pool such as PgBouncer is in between: it greets with a process id of its own making."""
    with psycopg.ClientCursor(connected) as cursor:
        return cursor.execute("SELECT pg_backend_pid()").fetchone() == (connected.info.backend_pid,)


def missing_tables(using: str) -> tuple[list[str], bool]:
    """The app's tables that the database with the alias `using` lacks but should have; whether those are all of them.

    Migrations may be recorded as applied without any table, for instance if a router refuses them.
    """
    models = apps.get_app_config(APP).get_models(include_auto_created=True)
    expected = [model._meta.db_table for model in models if router.db_for_write(model) == using]
    with connection(using).cursor() as cursor:
        query = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NULL"
        cursor.execute(query, [expected])
        missing = sorted(name for (name,) in cursor.fetchall())
    return missing, len(missing) == len(expected)


def lacks_table(error: BaseException) -> bool:
    """Whether the database has refused a query because it lacks a table or a column of the app."""
    tables = [model._meta.db_table for model in apps.get_app_config(APP).get_models(include_auto_created=True)]
    absent = isinstance(error.__cause__, UndefinedTable | UndefinedColumn)
    return absent and any(table in str(error) for table in tables)


def is_read_only() -> bool:
    """Whether the queue's database takes no writes, as a standby."""
    with connection().cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        return bool(cursor.fetchone() == ("on",))


def on_commit(call: Callable[[], object]) -> None:
    """Call it after the commit of the caller's transaction in the queue's database; at once without a transaction."""
    transaction.on_commit(call, using=alias())


def close() -> None:
    """Give back all connections of this thread, of whichever database: a wait must hold none, and none of a pool."""
    connections.close_all()


def transaction_elsewhere() -> str | None:
    """The alias of another database in which the caller is in a transaction while it is in none of the queue's."""
    if _in_transaction(connection()):
        return None
    return next((one.alias for one in connections.all(initialized_only=True) if _in_transaction(one)), None)


def _in_transaction(database: Any) -> bool:
    """Whether code has begun a transaction there: Django's `TestCase` puts each test into one, which does not count."""
    return any(not getattr(block, "_from_testcase", False) for block in database.atomic_blocks)


def statement_of(rows: QuerySet[Any, Any]) -> tuple[str, tuple[Any, ...]]:
    """The SQL of a query of the queue's tables, and its values."""
    sql, values = rows.query.get_compiler(alias()).as_sql()
    return sql, tuple(values)


def counts(limit: int, **rows: QuerySet[Any, Any]) -> dict[str, int]:
    """How many rows of the queue's tables each query finds, up to `limit`: one statement for all of them."""
    return _together([_counted(query, limit) for query in rows.values()], rows)


def counts_and_first(limit: int, first: QuerySet[Any, Any], **rows: QuerySet[Any, Any]) -> tuple[dict[str, int], Any]:
    """The same, and the one value of the first row of another query, None without one; still one statement."""
    parts = [*(_counted(query, limit) for query in rows.values()), _part("({})", first[:1])]
    found = _together(parts, [*rows, ""])
    return found, found.pop("")


Part = tuple[str, tuple[Any, ...]]
"""A part of a statement, with its values."""


def _counted(query: QuerySet[Any, Any], limit: int) -> Part:
    return _part("(SELECT count(*) FROM ({}) AS counted)", query.order_by().values("pk")[:limit], empty="0")


def _part(form: str, query: QuerySet[Any, Any], *, empty: str = "NULL") -> Part:
    try:
        sql, values = statement_of(query)
    except EmptyResultSet:  # of `none()`
        return empty, ()
    return form.format(sql), values


def _together(parts: list[Part], names: Iterable[str]) -> dict[str, Any]:
    with connection().cursor() as cursor:
        values = [value for _, given in parts for value in given]
        cursor.execute(f"SELECT {', '.join(sql for sql, _ in parts)}", values)
        return dict(zip(names, cursor.fetchone(), strict=True))
