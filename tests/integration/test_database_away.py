"""Without a database the API answers with problem documents, and the probes with their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, InternalError, connection, connections
from django.test import Client
from django.urls import reverse
from psycopg import errors
from rest_framework.test import APIClient

from reportqueue import health
from reportqueue.api import problems
from reportqueue.api.urls import urlpatterns
from reportqueue.models import WebhookSource
from tests.conftest import ClientFactory

pytestmark = pytest.mark.django_db(transaction=True)
ENDPOINTS = sorted(pattern.name for pattern in urlpatterns if pattern.name)
ARGUMENTS = {"webhook": {"source": "shop"}}
WITHOUT_ID = {
    *("queue", "claim", "start-batch", "heartbeat-batch", "complete-batch", "pending", "reports", "schedules"),
    *("new-preview", "webhook"),
}


def address(name: str) -> str:
    arguments = ARGUMENTS.get(name) or ({} if name in WITHOUT_ID else {"pk": 1})
    return reverse(f"reportqueue:{name}", kwargs=arguments)


@pytest.fixture(params=[False, True], ids=["", "with ATOMIC_REQUESTS"])
def atomic_requests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From the call on, no connection can be made."""
    with monkeypatch.context() as patched:

        def take_away() -> None:
            connection.close()
            patched.setitem(connection.settings_dict, "HOST", "/nowhere")

        yield take_away
        connection.close()


def token(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportqueue", "consume_reportqueue", "view_reportschedule", "add_reportschedule")


def session(client_with: ClientFactory) -> APIClient:
    client = APIClient()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.mark.parametrize("caller", [token, session])
@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_answers_with_a_problem_document(
    atomic_requests: None, away: Callable[[], None], client_with: ClientFactory, name: str, caller: Any
):
    client = caller(client_with)
    WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2)
    away()
    for method in ("GET", "POST", "PATCH", "DELETE"):
        answer = client.generic(method, address(name), "{}", content_type="application/json")
        if answer.status_code not in (401, 405):  # what needs no database: a delivery that nobody has signed
            assert (answer.status_code, answer["Content-Type"]) == (503, problems.CONTENT_TYPE), method
            assert (answer.json()["type"], answer["Retry-After"]) == ("unavailable", "1")


def test_the_probes_answer(atomic_requests: None, away: Callable[[], None], client: Client):
    away()
    said = {path: client.get(path) for path in ("/healthz", "/readyz", "/status")}
    assert {path: answer.status_code for path, answer in said.items()} == {
        "/healthz": 200,
        "/readyz": 503,
        "/status": 503,
    }
    assert said["/readyz"].json()["reasons"] == [health.NO_DATABASE]


@pytest.mark.parametrize("reason", [errors.ReadOnlySqlTransaction, errors.IdleInTransactionSessionTimeout])
def test_a_server_that_has_changed_its_role_meanwhile_is_away(reason: type[Exception]):
    """After a failover the old server takes no writes: Django's error for it is no OperationalError."""
    error: DatabaseError = InternalError("cannot execute UPDATE in a read-only transaction")
    error.__cause__ = reason()
    answer = problems.answer(error)
    assert answer is not None
    assert (answer.status_code, answer.data["type"]) == (503, "unavailable")
    assert problems.answer(InternalError("another")) is None


def test_a_server_that_takes_no_writes_is_away(client_with: ClientFactory):
    client = client_with("add_reportqueue")
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        answer = client.post("/api/report-queue/", {"report_id": 1, "modifier_id": 2}, format="json")
    finally:
        connection.close()
    assert (answer.status_code, answer.json()["type"]) == (503, "unavailable")


def test_a_delivery_is_asked_for_again(away: Callable[[], None]):
    away()
    headers = {"webhook-id": "1", "webhook-timestamp": "0", "webhook-signature": "v1,x"}
    answer = Client().post("/api/webhooks/shop/", "{}", content_type="application/json", headers=headers)
    assert (answer.status_code, answer["Content-Type"]) == (503, problems.CONTENT_TYPE)
