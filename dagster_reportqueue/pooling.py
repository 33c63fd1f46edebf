"""Keeps storage connections for the next operation. Dagster on PostgreSQL opens one for each, which is 28 in a run."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import Any

from dagster import DagsterInstance
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError

RECYCLE_SECONDS = 600
"""A connection is replaced after that, so that those of a pooler or of a failover spread again."""
STATEMENT_MILLISECONDS = 300_000
TRUSTED_SECONDS = 1.0
"""A connection that was used so recently is not asked whether it still works, unless its server has sent something."""
KEPT_CONNECTIONS = 8
"""Connections of each storage that are kept, if so many were used at the same time: by the sensors of a daemon."""
MAX_CONNECTIONS = 20
"""Connections of each storage that may be used at the same time, besides one."""


def pool_connections(instance: DagsterInstance) -> None:
    """Keep connections for each storage; a connection that was cut off is replaced before it is used.

    Storages that are not SQL servers are not changed.
    """
    instance.optimize_for_webserver(
        statement_timeout=STATEMENT_MILLISECONDS, pool_recycle=RECYCLE_SECONDS, max_overflow=MAX_CONNECTIONS
    )
    for engine in _engines(instance):
        # Dagster would have it keep one. All others would be closed after each use.
        engine.pool._pool.maxsize = KEPT_CONNECTIONS  # type: ignore[attr-defined]
        event.listen(engine, "checkout", _check)
        event.listen(engine, "checkin", _note_use)


def close_connections(instance: DagsterInstance) -> None:
    """Close the kept connections; new ones are opened when needed."""
    for engine in _engines(instance):
        engine.dispose()


def forget_connections(instance: DagsterInstance) -> None:
    """Drop the kept connections without closing them: the process from which this one was forked uses them."""
    for engine in _engines(instance):
        engine.dispose(close=False)


def _engines(instance: DagsterInstance) -> Iterator[Engine]:
    for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
        engine = getattr(storage, "_engine", None)
        if isinstance(engine, Engine):
            yield engine


def _note_use(connection: Any, record: Any) -> None:
    record.info["reportqueue_used"] = time.monotonic()


def _check(connection: Any, record: Any, proxy: object) -> None:
    """A restart of the database, or a firewall that dropped an idle connection, is noticed here and not in a report.

    A server that ends a connection says so on it. Only one that has vanished says nothing.
    """
    used = record.info.get("reportqueue_used")
    if used is not None and time.monotonic() - used < TRUSTED_SECONDS and not _has_news(connection):
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:
        raise DisconnectionError("the kept connection is gone") from error


def _has_news(connection: Any) -> bool:
    """Whether the server has sent something since the last answer, or has hung up."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN | select.POLLPRI)
    return bool(waiting.poll(0))
