"""The real web app on a real port, a client with the permission that a consumer needs, and what can come between."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from dagster import DagsterInstance, instance_for_test
from django.contrib.auth.models import Permission, User
from django.db import connection
from psycopg import sql
from pytest_django.live_server_helper import LiveServer

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.pooling import close_connections, pool_connections
from dagster_reportqueue.sensors import instances
from reportqueue import tokens
from tests.dagster_reportqueue.front import Front
from tests.dagster_reportqueue.runs import Runner

ClientFactory = Callable[..., ReportQueueClient]
FILTERS = [
    # Dagster binds resources to a sensor by copying it, with every parameter.
    "ignore:Parameter .owners. of initializer .SensorDefinition:dagster.BetaWarning",
    # It reads a schedule's every property to describe it.
    "ignore:Property .ScheduleDefinition.environment_vars. is deprecated:DeprecationWarning",
    # Its daemon logs a tick that it resumes with `logger.warn`.
    "ignore:The 'warn' method is deprecated:DeprecationWarning:dagster._daemon.sensor",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of this folder's tests alone: Dagster's warnings about what Dagster itself does."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for text in FILTERS:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(scope="session")
def dagster_database(django_db_setup: None) -> Iterator[str]:
    """A database for Dagster on the same server, dropped at the end: its SQLite is ten times slower to set up."""
    place = connection.settings_dict
    # Tests that need no database of Django leave NAME as it is, in each of xdist's processes.
    name = f"{place['NAME']}_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}_dagster"
    options = {"user": place["USER"], "password": place["PASSWORD"], "host": place["HOST"], "port": place["PORT"]}
    database = sql.Identifier(name)
    with psycopg.connect(dbname="postgres", autocommit=True, **options) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        server.execute(sql.SQL("CREATE DATABASE {}").format(database))
        given = {key: text for key, text in options.items() if text}
        yield f"postgresql+psycopg2:///?{urlencode({'dbname': name} | given)}"
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@pytest.fixture
def storage(dagster_database: str) -> Iterator[dict[str, Any]]:
    """An empty storage, as `instance_for_test` takes it."""
    yield {"storage": {"postgres": {"postgres_url": dagster_database}}}
    with psycopg.connect(dagster_database.replace("+psycopg2", ""), autocommit=True) as server:
        # What says which migrations are done stays: Dagster writes it when it makes its tables.
        (tables,) = server.execute(  # type: ignore[misc]
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
            " AND tablename NOT IN ('alembic_version', 'secondary_indexes')"
        ).fetchone()
        if tables:
            server.execute(sql.SQL(f"TRUNCATE {tables} RESTART IDENTITY"))


@pytest.fixture(autouse=True)
def _no_kept_instance() -> Iterator[None]:
    """Close what the ticks in this process have kept."""
    yield
    if instances._kept is not None:
        close_connections(instances._kept[1])
        instances._kept = None


@pytest.fixture
def token(transactional_db: None) -> str:
    """Of a user who may consume, and nothing else."""
    user = User.objects.create_user("dagster")
    user.user_permissions.set(Permission.objects.filter(codename="consume_reportqueue"))
    return tokens.issue(user, name="test").key


@pytest.fixture
def front(live_server: LiveServer, transactional_db: None) -> Iterator[Front]:
    """Stands before the web app; faults are set on it."""
    front = Front(live_server.url)
    yield front
    front.close()


@pytest.fixture
def stranger() -> Iterator[Front]:
    """Stands before nothing: whatever it answers is not the web app's."""
    front = Front("http://127.0.0.1:9")
    yield front
    front.close()


@pytest.fixture
def make_client(front: Front, token: str) -> Iterator[ClientFactory]:
    """Builds clients of the front; `make_client(url=..., token=..., retries=...)`."""
    made = []

    def make(url: str = front.url, token: str = token, **options: float) -> ReportQueueClient:
        made.append(ReportQueueClient(url, token, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: ClientFactory) -> ReportQueueClient:
    """A client of the real web app, through a front without faults."""
    return make_client()


@pytest.fixture
def instance(
    storage: dict[str, Any], front: Front, token: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """An instance whose runs are executed as they are launched."""
    monkeypatch.setenv("REPORTQUEUE_URL", front.url)
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    with instance_for_test(storage, synchronous_run_coordinator=True, synchronous_run_launcher=True) as instance:
        pool_connections(instance)  # as a daemon does
        yield instance
        close_connections(instance)


def allow_consumer(codename: str) -> None:
    """One more permission for the user of `token`."""
    User.objects.get(username="dagster").user_permissions.add(Permission.objects.get(codename=codename))


@pytest.fixture
def runner(client: ReportQueueClient, token: str) -> Iterator[Runner]:
    """Executes report jobs in this process."""
    with DagsterInstance.ephemeral() as instance:
        yield Runner(client, token, instance)
