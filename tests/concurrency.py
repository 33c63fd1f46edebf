"""Things that happen at the same time: threads, each with a database connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connection, connections

from reportqueue.errors import RowBusy

T = TypeVar("T")


def wait_for_a_blocked_connection(database: Any = connection, *, seconds: float = 10) -> None:
    """Return once another connection to this database waits for a lock."""
    until = time.monotonic() + seconds
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while time.monotonic() < until:
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees the activity it first looked at
            cursor.execute(query)
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("no connection came to wait for a lock")


PATIENCE_SECONDS = 60


def patiently(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Repeat a call that is refused since another transaction is busy, as a client repeats one after a 503."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call(*args, **kwargs)
        except RowBusy:
            if time.monotonic() > until:
                raise


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Run the calls together, released by one barrier; what each returned or raised, in their order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Exception:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = '20s'")  # a wait that never ends fails the test
            barrier.wait(timeout=30)
            return call()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
