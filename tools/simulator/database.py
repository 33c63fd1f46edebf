"""The database of the scenarios: a real PostgreSQL whose clock is the simulated world's, emptied for each scenario.

The schema `simulator` comes first on the search path. It has functions with the names of PostgreSQL's clocks. They
return a session's setting, which is set anew after each boundary. Time stands still within a transaction: a boundary
is never inside of one. All tasks share one connection, as only one of them runs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import psycopg
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connection, connections, transaction

from reportqueue import tokens
from tools.simulator import faults
from tools.simulator.faults import Faults
from tools.simulator.machine import instant, machine
from tools.simulator.settings import SCHEMA

TOKEN = f"rq_{'0' * 12}_{'0' * 43}"
"""Of the one user of the API, who may do everything."""
_CLOCKS = ("now", "statement_timestamp", "transaction_timestamp", "clock_timestamp")
_NEVER_WAITS = ("SAVEPOINT", "RELEASE", "ROLLBACK", "SELECT set_config")
"""How statements begin that take no lock, and so are never a deadlock's victim."""
_DEADLOCK = "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = 'deadlock_detected'; END $$"


def prepare() -> None:
    """Create the clocks, the tables and the user in an empty database."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        for name in _CLOCKS:
            cursor.execute(
                f"CREATE OR REPLACE FUNCTION {SCHEMA}.{name}() RETURNS timestamptz LANGUAGE sql STABLE AS $$ "
                "SELECT coalesce(nullif(current_setting('simulator.now', true), '')::timestamptz, "
                "pg_catalog.clock_timestamp()) $$"
            )
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        for table in _tables():
            # Statistics that come at some moment would change plans, and with them the order of rows.
            cursor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    user = User.objects.create_superuser("simulator")
    tokens.issue(user, name="simulator", key=TOKEN)


def empty() -> None:
    """Delete everything of the last scenario; ids begin at 1 again."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(_tables())} RESTART IDENTITY CASCADE")


def _tables() -> list[str]:
    return [model._meta.db_table for model in apps.get_app_config("reportqueue").get_models()]


class Database:
    """The connection of the scenarios: it sets the clock and lets faults strike statements and commits."""

    def __init__(self) -> None:
        self.faults: Faults | None = None
        self._stamped: tuple[Any, int] | None = None
        self._stranger: psycopg.Connection[Any] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let all tasks share the connection, and watch its statements, transactions and commits."""
        connection.ensure_connection()
        connection.inc_thread_sharing()
        shared = SimpleNamespace(default=connections["default"])
        enter = transaction.Atomic.__enter__
        database = self

        def entered(atomic: transaction.Atomic) -> None:
            if not connection.in_atomic_block:
                database.boundary()
            enter(atomic)

        commit = connection._commit

        def committed() -> None:
            commit()
            if database._strikes([faults.COMMIT_UNHEARD]):
                connection.connection.close()
                raise OperationalError("the connection was lost while the commit's answer was awaited")

        connection.execute_wrappers.append(self._execute)
        with (
            mock.patch.object(connections, "_connections", shared),
            mock.patch.object(transaction.Atomic, "__enter__", entered),
            mock.patch.object(connection, "_commit", committed),
        ):
            try:
                yield
            finally:
                connection.execute_wrappers.remove(self._execute)
                self.release()
                connection.dec_thread_sharing()

    def boundary(self) -> None:
        """Before a transaction: others may go on."""
        world = machine.world
        if world is not None and world.current is not None:
            world.pause()
        if connection.connection is not None and connection.connection.closed:
            connection.close()  # another task's connection was cut: this one would have its own
        self._stamp()

    def hold(self, statement: str, values: list[Any]) -> None:
        """Let a stranger's transaction lock rows, on a connection of its own, until `release`."""
        self.release()
        place = connection.get_connection_params()
        place.pop("cursor_factory", None)
        place.pop("context", None)
        self._stranger = psycopg.connect(**place)
        self._stranger.execute(statement, values)

    def release(self) -> None:
        """End the stranger's transaction."""
        if self._stranger is not None:
            self._stranger.rollback()  # a closed connection's locks would go at some moment
            self._stranger.close()
            self._stranger = None

    def _execute(self, execute: Any, statement: str, values: Any, many: bool, context: Any) -> Any:
        if not connection.in_atomic_block:
            self._stamp()
        waits = connection.in_atomic_block and not str(statement).startswith(_NEVER_WAITS)
        kinds = [faults.DEADLOCK, faults.CONNECTION_CUT] if waits else [faults.CONNECTION_CUT]
        kind = self._strikes(kinds, share=0.05)
        if kind == faults.DEADLOCK:
            execute(_DEADLOCK, None, False, context)
        elif kind == faults.CONNECTION_CUT:
            self._cut()
        return execute(statement, values, many, context)

    def _cut(self) -> None:
        """Lose the connection, as by `pg_terminate_backend`; but its locks are free at once, not at some moment."""
        raw = connection.connection
        raw.rollback()
        raw.close()
        connection.errors_occurred = True
        cause = psycopg.errors.AdminShutdown("terminating connection due to administrator command")
        raise OperationalError(str(cause)) from cause

    def _strikes(self, kinds: list[str], *, share: float = 0.5) -> str | None:
        world = machine.world
        if world is None or world.current is None or self.faults is None or not world.current.process.killable:
            return None
        return self.faults.strike(kinds, world.current, share=share)

    def _stamp(self) -> None:
        """Set the session's clock to the world's, if it has changed."""
        world = machine.world
        if world is None:
            return
        connection.ensure_connection()
        raw = connection.connection
        stamped, at = self._stamped or (None, 0)
        if not raw.closed and (raw is not stamped or at != world.microseconds):
            raw.execute(f"SET simulator.now = '{instant(world.now).isoformat()}'")
            self._stamped = (raw, world.microseconds)
