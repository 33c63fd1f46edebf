"""Plans that PostgreSQL keeps with a connection, for statements that are the same each time but for their values.

Planning is most of what a claim costs PostgreSQL. It is told to read along indexes alone, so that a plan from an empty
table suits it when it has a million rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.errors import InvalidSqlStatementName

from reportqueue import database

SETTINGS = database.IN_ORDER | {"enable_seqscan": "off"}
"""PostgreSQL's settings in a transaction whose plans last."""
FROM_USE = 5
"""A connection that is used less gets no plans: for one or two requests they cost more than they save."""
_last = ContextVar("plans_last", default=False)


@dataclass
class _Session:
    """What is known of a connection."""

    uses: int = 0
    """How often a cursor was asked for."""
    keeps: bool | None = None
    """Whether it talks to one PostgreSQL session for good; None before that was asked."""


_sessions: WeakKeyDictionary[psycopg.Connection[Any], _Session] = WeakKeyDictionary()


class _Cursor(psycopg.Cursor[Any]):
    """It has statements planned that the connection sees for the second time."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> _Cursor:
        """Execute a statement. The connection's other cursors stay as the project has them."""
        before, self.connection.prepare_threshold = self.connection.prepare_threshold, 1
        try:
            return super().execute(query, params, **options)
        except InvalidSqlStatementName:
            _sessions[self.connection].keeps = False  # somebody discards them
            raise
        finally:
            self.connection.prepare_threshold = before


@contextmanager
def lasting() -> Iterator[None]:
    """Have `cursor` keep plans: the transaction has the `SETTINGS`."""
    before = _last.set(True)
    try:
        yield
    finally:
        _last.reset(before)


@contextmanager
def cursor() -> Iterator[Any]:
    """A cursor of the queue's database that keeps the plans of its statements, within `lasting`.

    Behind a connection pool it keeps none: another session may execute the next statement. Name the columns that a
    statement returns: a plan of `*` fails once a migration has added a column.
    """
    wrapper = database.connection()
    wrapper.ensure_connection()
    if not _last.get() or not _keeps(wrapper.connection):
        with wrapper.cursor() as ordinary:
            yield ordinary
        return
    own: Any = _Cursor(wrapper.connection)
    with wrapper.make_debug_cursor(own) if wrapper.queries_logged else wrapper.make_cursor(own) as wrapped:
        yield wrapped


def _keeps(connected: Any) -> bool:
    if not isinstance(connected, psycopg.Connection):
        return False
    session = _sessions.setdefault(connected, _Session())
    session.uses += 1
    if session.keeps is None and session.uses > FROM_USE:
        session.keeps = database.is_direct(connected)
    return bool(session.keeps)
