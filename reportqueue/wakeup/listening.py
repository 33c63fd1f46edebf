"""The connections on which a process listens. They do not go through a connection pool, as far as one can tell.

A pool such as PgBouncer gives a server's connection to another client after each transaction. It delivers no
notifications, and a LISTEN stays on a connection that others use. So nothing listens there: who waits polls, unless
`LISTEN_DATABASE` names a connection without a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import psycopg
from django.db import connections
from psycopg import sql

from reportqueue import database
from reportqueue.conf import conf

CONNECT_SECONDS = 5
"""How long a connection may take to be made, unless the project's settings say so."""


class Pooled(Exception):
    """Notifications do not arrive through a connection pool: name one without a pool in LISTEN_DATABASE."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"The database {alias!r} is behind a connection pool, which delivers no notifications. "
            "REPORTQUEUE['LISTEN_DATABASE'] may name a direct connection."
        )


@dataclass(frozen=True)
class Address:
    """How to connect as Django does: also in another thread, and on a connection of one's own."""

    alias: str
    parameters: dict[str, Any]
    role: str | None
    """The role that Django assumes after the login."""

    @classmethod
    def of(cls, alias: str | None = None) -> Self:
        """The address of one of `DATABASES`, by default of the queue's database."""
        alias = alias or database.alias()
        django: Any = connections[alias]
        parameters = {"connect_timeout": CONNECT_SECONDS, **django.get_connection_params()}
        return cls(alias, parameters, django.settings_dict["OPTIONS"].get("assume_role"))

    @classmethod
    def for_listening(cls) -> Self:
        """The address on which to listen: of `LISTEN_DATABASE`, or the queue's own."""
        return cls.of(conf().listen_database or None)

    def connect(self, name: str, **more: Any) -> psycopg.Connection[Any]:
        """A connection in autocommit, shown under `name` in `pg_stat_activity`; `more` are parameters of libpq.

        Raises `psycopg.Error`.
        """
        made = psycopg.connect(**{**self.parameters, "application_name": name, **more}, autocommit=True)
        if self.role:
            made.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role)))
        return made

    def connect_directly(self, name: str) -> psycopg.Connection[Any]:
        """As `connect`. Raises `Pooled` if a connection pool is in between."""
        made = self.connect(name)
        try:
            if not database.is_direct(made):
                raise Pooled(self.alias)
        except BaseException:
            made.close()
            raise
        return made
