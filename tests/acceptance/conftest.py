"""Fixtures of the acceptance tests: folders with short paths, demos that are ended, databases that are dropped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.acceptance import wheels
from tests.acceptance.demos import ROOT, DemoProcess, clean_environment, processes_on
from tests.acceptance.roads import Road
from tools.runner.environments import write_pins
from tools.runner.postgres import create_database, with_database
from tools.runner.release import WHEEL

StartDemo = Callable[..., DemoProcess]


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder that any user may enter; its path is short, as a Unix socket's must be, and has a space."""
    path = Path(tempfile.mkdtemp(prefix="rq ", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A `short_folder` for the module's tests."""
    with short_folder() as path:
        yield path


@pytest.fixture(scope="session")
def wheel() -> Iterator[Path]:
    """The one that a release has built, or one that is built from the checkout, in which the build leaves nothing."""
    if given := os.environ.get(WHEEL):
        yield Path(given)
        return
    with short_folder() as path:
        before = set(ROOT.iterdir())
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(path)]
        done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert set(ROOT.iterdir()) == before
        [built] = path.iterdir()
        yield built


@pytest.fixture(scope="session")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of requirements.txt, to install the wheel with."""
    return write_pins(tmp_path_factory.mktemp("pinned") / "pinned.txt")


@pytest.fixture(scope="session")
def road(wheel: Path, pinned: Path) -> Iterator[Road]:
    """The README's road, of which nothing has been done yet; all that it starts is ended."""
    with new_road(wheel, pinned) as made:
        yield made


@contextmanager
def new_road(wheel: Path, pinned: Path) -> Iterator[Road]:
    """Terminals in an empty folder, beside an empty database; all that they start is ended."""
    url = new_database()
    with short_folder() as path:
        made = Road(path, wheel, pinned, libpq(url))
        try:
            yield made
        finally:
            made.stop()
            left = processes_on(path)
            drop_databases(url)
        assert not left, "Ctrl-C in all terminals has left these"


def libpq(url: str) -> dict[str, str]:
    """The variables that lead libpq to this database."""
    parts = urlsplit(url)
    more = {name: values[0] for name, values in parse_qs(parts.query).items()}
    found = {
        "PGHOST": more.get("host") or parts.hostname,
        "PGPORT": more.get("port") or str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path[1:]),
    }
    return {name: value for name, value in found.items() if value}


def new_database() -> str:
    """The URL of a new, empty database on the tests' server."""
    url = with_database(os.environ["DATABASE_URL"], f"acceptance_{uuid4().hex[:12]}")
    create_database(url)
    return url


def drop_databases(url: str) -> None:
    """Drop the database, Dagster's beside it, and that of its tests, if they exist."""
    name = libpq(url)["PGDATABASE"]
    with psycopg.connect(with_database(os.environ["DATABASE_URL"], "postgres"), autocommit=True) as connection:
        for one in (name, f"{name}_dagster", f"test_{name}"):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(one)))


@pytest.fixture(scope="session")
def their_python(road: Road) -> str:
    """The Python of the environment that the README makes for the Django side."""
    return str(road.install_django_side())


@pytest.fixture(scope="session")
def installed(wheel: Path) -> Iterator[Path]:
    """The wheel for the Dagster side: on the `PYTHONPATH` of an environment that has Dagster."""
    with short_folder() as path:
        wheels.python(sys.executable, *wheels.PIP, "--no-deps", "--target", str(path), str(wheel), cwd=path)
        yield path


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
    url = with_database(os.environ["DATABASE_URL"], f"acceptance_{uuid4().hex[:12]}")
    yield url
    drop_databases(url)
