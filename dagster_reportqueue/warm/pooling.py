"""Storage connections that are kept for the next operation: Dagster's on PostgreSQL open one for each, 28 in a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dagster import DagsterInstance
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError

RECYCLE_SECONDS = 60
STATEMENT_MILLISECONDS = 300_000
MAX_CONNECTIONS = 20
"""Of each storage, beyond the one that is kept: a daemon's threads use them at once."""


def pool_connections(instance: DagsterInstance) -> None:
    """Keep one connection for each storage; one that was cut off meanwhile is replaced, unnoticed by who needs it.

    Storages of another kind than SQL servers are left as they are.
    """
    instance.optimize_for_webserver(
        statement_timeout=STATEMENT_MILLISECONDS, pool_recycle=RECYCLE_SECONDS, max_overflow=MAX_CONNECTIONS
    )
    for engine in _engines(instance):
        event.listen(engine, "checkout", _check)


def close_connections(instance: DagsterInstance) -> None:
    """Close those that are kept; new ones are opened when they are needed."""
    for engine in _engines(instance):
        engine.dispose()


def forget_connections(instance: DagsterInstance) -> None:
    """Leave them to the process that this one was forked from, which uses them; new ones are opened when needed."""
    for engine in _engines(instance):
        engine.dispose(close=False)


def _engines(instance: DagsterInstance) -> Iterator[Engine]:
    for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
        engine = getattr(storage, "_engine", None)
        if isinstance(engine, Engine):
            yield engine


def _check(connection: Any, record: object, proxy: object) -> None:
    # A database that was restarted, or a firewall that forgets what is silent, is met here and not in a report's run.
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:
        raise DisconnectionError("the kept connection is gone") from error
