"""Each pgbouncer.ini of deploy/: PgBouncer starts with it, and gives out its connections by transactions."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from tests.deploy.files import DEPLOY
from tests.pgbouncer import needs_pgbouncer, running
from tools.runner.stack import free_port

pytestmark = [pytest.mark.django_db, needs_pgbouncer]
FILES = sorted(DEPLOY.rglob("pgbouncer.ini"))
PASSWORD = "of-the-pool"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_pgbouncer_takes_its_users_and_shares_connections_by_transactions(path: Path, tmp_path: Path):
    server, port, home = connection.settings_dict, free_port(), tmp_path / "pool"
    user = server["USER"] or "postgres"
    place = f"host={server['HOST'] or '127.0.0.1'} port={server['PORT'] or 5432}"
    changes = {
        r"host=\S+ port=\d+ dbname=\w+": f"{place} dbname={server['NAME']} user={user} password={PASSWORD}",
        r"listen_addr = .*": "listen_addr = 127.0.0.1",
        r"listen_port = .*": f"listen_port = {port}",
        r"auth_file = .*": f"auth_file = {home}/users",
        r"default_pool_size = .*": "default_pool_size = 1",
    }
    text = path.read_text()
    for old, new in changes.items():
        text, found = re.subn(rf"(?m)^(reportqueue = |){old}$", rf"\g<1>{new}", text)
        assert found == 1, old
    home.mkdir()
    (home / "users").write_text(f'"web" "{PASSWORD}"\n')
    through = {"host": "127.0.0.1", "port": port, "user": "web", "password": PASSWORD, "dbname": "reportqueue"}
    with running(home, text, server, through):
        with (
            psycopg.connect(**through, autocommit=True) as first,
            psycopg.connect(**through, autocommit=True) as second,
        ):
            pids = [one.execute("SELECT pg_backend_pid()").fetchone() for one in (first, second, first)]
        assert len(set(pids)) == 1, "two clients share the pool's only connection"
        with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
            psycopg.connect(**{**through, "password": "wrong"})
