"""Fixtures of the acceptance tests: folders with short paths, demos that are ended, databases that are dropped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.acceptance.demos import DemoProcess
from tools.runner.postgres import with_database

StartDemo = Callable[..., DemoProcess]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that any user may enter; its path is short, as a Unix socket's must be, and has a space."""
    path = Path(tempfile.mkdtemp(prefix="rq ", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def start_demo() -> Iterator[StartDemo]:
    """Starts a `DemoProcess`, which is ended with all its processes after the module's last test."""
    started: list[DemoProcess] = []

    def start(data: Path, *options: str, ports: tuple[int, int] | None = None, **variables: str) -> DemoProcess:
        started.append(DemoProcess(data, *options, ports=ports, **variables))
        return started[-1]

    yield start
    for demo in started:
        demo.clean_up()


@pytest.fixture
def fresh_database_url() -> Iterator[str]:
    """The URL of a database that does not exist yet, on the tests' server; dropped afterwards, Dagster's beside it."""
    server = os.environ["DATABASE_URL"]
    name = f"acceptance_{uuid4().hex[:12]}"
    yield with_database(server, name)
    with psycopg.connect(with_database(server, "postgres"), autocommit=True) as connection:
        for one in (name, f"{name}_dagster"):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(one)))
