"""The real web app on a real port, a client with the permission that a consumer needs, and what can come between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from django.contrib.auth.models import Permission, User
from pytest_django.live_server_helper import LiveServer
from rest_framework.authtoken.models import Token

from orchestrator.client import ReportQueueClient
from tests.orchestrator.front import Front
from tests.orchestrator.runs import Runner

ClientFactory = Callable[..., ReportQueueClient]
FILTERS = [
    # Dagster binds resources to a sensor by copying it, with every parameter.
    "ignore:Parameter .owners. of initializer .SensorDefinition:dagster.BetaWarning",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of this folder's tests alone: Dagster's warnings about what Dagster itself does."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for text in FILTERS:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture
def token(transactional_db: None) -> str:
    """Of a user who may consume, and nothing else."""
    user = User.objects.create_user("dagster")
    user.user_permissions.set(Permission.objects.filter(codename="consume_reportqueue"))
    return str(Token.objects.create(user=user).key)


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
def runner(client: ReportQueueClient, token: str) -> Iterator[Runner]:
    """Executes report jobs in this process."""
    with DagsterInstance.ephemeral() as instance:
        yield Runner(client, token, instance)
