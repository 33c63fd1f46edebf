"""The app's databases: which of `DATABASES` has the queue and which has the API tokens, and transactions there.

The project's routers decide. All tables are in one database, the queue's, but for that of the API tokens: it has a
foreign key to the users, so it is in the users' database. Without routers, both are `default`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

APP = "reportqueue"


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
