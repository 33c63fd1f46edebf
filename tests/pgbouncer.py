"""PgBouncer with `pool_mode = transaction`, in front of the tests' server."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tools.runner.stack import free_port

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
POOLED = 3
"""Connections to the server that the pool gives to its clients in turn."""
needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None, reason="PgBouncer is not installed; on Debian: apt-get install pgbouncer"
)


@contextmanager
def pgbouncer(home: Path, server: dict[str, Any], name: str) -> Iterator[int]:
    """Yields the port of a PgBouncer before a server, whose settings are as in Django's `DATABASES`.

    Each transaction gets another of its connections. It keeps its files in `home`; `name` is one of the databases.
    """
    port = free_port()
    account = server["USER"] or "postgres"
    home.mkdir()
    (home / "users").write_text(f'"{account}" "{server["PASSWORD"]}"\n')
    text = f"""
        [databases]
        * = host={server["HOST"] or "127.0.0.1"} port={server["PORT"] or 5432}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = trust
        auth_file = {home}/users
        pool_mode = transaction
        default_pool_size = {POOLED}
        server_round_robin = 1
        logfile = {home}/log
        """.replace("        ", "")
    through = {"host": "127.0.0.1", "port": port, "user": account, "password": server["PASSWORD"], "dbname": name}
    with running(home, text, server, through):
        with ExitStack() as together:  # as many transactions at once make so many connections
            for _ in range(POOLED):
                together.enter_context(psycopg.connect(**through)).execute("SELECT 1")
        yield port


@contextmanager
def running(home: Path, text: str, server: dict[str, Any], through: dict[str, Any]) -> Iterator[None]:
    """Run PgBouncer with the settings `text` and the files in `home`, once the connection `through` works."""
    assert PGBOUNCER is not None
    (home / "pgbouncer.ini").write_text(text)
    # PgBouncer refuses to be root; the owner of the server's socket may use it.
    owner = os.stat(server["HOST"]).st_uid if server["HOST"].startswith("/") and os.geteuid() == 0 else None
    if owner is not None:
        for folder in (home, *home.parents):
            if folder.stat().st_uid == 0 and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        for path in (home, *home.iterdir()):
            os.chown(path, owner, -1)
    with (home / "output").open("wb") as output:
        process = subprocess.Popen([PGBOUNCER, str(home / "pgbouncer.ini")], user=owner, stdout=output, stderr=output)
    try:
        patience = time.monotonic() + 20
        while not _accepts(through):
            said = (home / "output").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < patience, said
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def _accepts(through: dict[str, Any]) -> bool:
    try:
        with psycopg.connect(**through):
            return True
    except psycopg.OperationalError:
        return False
