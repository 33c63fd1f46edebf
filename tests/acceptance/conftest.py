"""Fixtures of the acceptance tests: folders with short paths, demos that are ended, databases that are dropped."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.acceptance import wheels
from tests.acceptance.demos import DemoProcess
from tools.runner.postgres import with_database

StartDemo = Callable[..., DemoProcess]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that any user may enter; its path is short, as a Unix socket's must be, and has a space."""
    path = Path(tempfile.mkdtemp(prefix="rq ", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A temporary folder of the module's tests."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="session")
def wheel_folder() -> Iterator[Path]:
    """A temporary folder of the wheel and of its installations."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="session")
def wheel(wheel_folder: Path) -> Path:
    """The wheel."""
    return wheels.build(wheel_folder)


@pytest.fixture(scope="session")
def their_python(wheel: Path, wheel_folder: Path) -> str:
    """The Python of an environment with the wheel's Django side."""
    return wheels.django_python(wheel, wheel_folder)


@pytest.fixture(scope="session")
def installed(wheel: Path, wheel_folder: Path) -> Path:
    """The wheel for the Dagster side: on the `PYTHONPATH` of an environment that has Dagster."""
    target = wheel_folder / "installed"
    wheels.python(sys.executable, *wheels.PIP, "--no-deps", "--target", str(target), str(wheel), cwd=wheel_folder)
    return target


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
