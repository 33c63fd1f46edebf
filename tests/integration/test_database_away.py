"""Without a database the API answers with problem documents, and the probes with their own."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, InternalError, OperationalError, ProgrammingError, connection, connections
from django.test import Client
from django.urls import reverse
from psycopg import errors
from rest_framework.test import APIClient

from reportqueue import database, locks
from reportqueue.api import problems
from reportqueue.api.urls import urlpatterns
from reportqueue.models import WebhookSource
from tests.conftest import ClientFactory
from tests.integration.test_health import tables, without

pytestmark = pytest.mark.django_db(transaction=True)
ENDPOINTS = sorted(pattern.name for pattern in urlpatterns if pattern.name)
ARGUMENTS = {"webhook": {"source": "shop"}}
WITHOUT_ID = {
    *("queue", "claim", "start-batch", "heartbeat-batch", "complete-batch", "pending", "reports", "schedules"),
    *("new-preview", "webhook", "pauses", "pause-queue", "resume-queue", "catalogue"),
    *("agenda", "alert-rules", "bulk", "failures", "schema", "schema-ui", "subscriptions", "deliveries"),
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
    """From the call on, no connection can be made, to no database."""
    with monkeypatch.context() as patched:

        def take_away() -> None:
            connections.close_all()
            for one in connections.all():
                patched.setitem(one.settings_dict, "HOST", "/nowhere")

        yield take_away
        connections.close_all()


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
    assert said["/readyz"].json()["reasons"] == [locks.NO_ANSWER]


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
    assert answer.json()["detail"].startswith(locks.READ_ONLY)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_database_without_the_tables_is_no_server_error(client_with: ClientFactory, name: str):
    client = client_with("view_reportqueue", "consume_reportqueue", "view_reportschedule", "add_reportschedule")
    with without(*tables()):
        for method in ("GET", "POST", "PATCH", "DELETE"):
            answer = client.generic(method, address(name), "{}", content_type="application/json")
            assert answer["Content-Type"] == problems.CONTENT_TYPE, method
            if answer.status_code >= 500:  # others are refused before a table of the queue is read
                assert (answer.status_code, answer.json()["type"]) == (503, "not-migrated"), method
                assert answer.json()["detail"] == database.NOT_MIGRATED


def test_a_claim_without_the_tables_names_the_remedy(client_with: ClientFactory):
    client = client_with("consume_reportqueue")
    with without(*tables()):
        answer = client.post("/api/report-queue/claim/", {"consumer": "sensor"}, format="json")
    assert (answer.status_code, answer.json()["type"]) == (503, "not-migrated")
    assert "run manage.py check, then manage.py migrate" in answer.json()["detail"]


def test_a_column_that_is_missing_is_no_server_error(client_with: ClientFactory):
    client = client_with("view_reportqueue")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE reportqueue_reportqueue RENAME COLUMN alone TO elsewhere")
    try:
        answer = client.get("/api/report-queue/")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE reportqueue_reportqueue RENAME COLUMN elsewhere TO alone")
    assert (answer.status_code, answer.json()["type"]) == (503, "not-migrated")


def test_a_table_of_another_app_is_not_ours():
    with pytest.raises(ProgrammingError) as error, connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM shop_orders")
    assert problems.answer(error.value) is None


class Relay(socketserver.BaseRequestHandler):
    """Passes a connection on to the tests' server, until it is cut: the next message is answered with two errors."""

    backend = ""
    cut = threading.Event()

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(self.backend)
            while True:
                for ready in select.select([self.request, server], [], [])[0]:
                    data = ready.recv(65_536)
                    if ready is self.request and self.cut.is_set():
                        self.cut.clear()  # the next connection is a good one
                        farewell = b"SFATAL\0C57P01\0Mterminating connection\0\0"
                        self.request.sendall(2 * (b"E" + (4 + len(farewell)).to_bytes(4) + farewell))
                        return
                    if not data:
                        return
                    (server if ready is self.request else self.request).sendall(data)


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Django's connection goes through a relay, and is idle; after the event it is cut."""
    place = connection.settings_dict
    if not place["HOST"].startswith("/"):
        pytest.skip("the tests' server is not on a socket of this machine")
    monkeypatch.setattr(Relay, "backend", f"{place['HOST']}/.s.PGSQL.{place['PORT'] or 5432}")
    monkeypatch.setattr(Relay, "cut", threading.Event())
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server, monkeypatch.context() as patched:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        patched.setitem(place, "HOST", "127.0.0.1")
        patched.setitem(place, "PORT", str(server.server_address[1]))
        patched.setitem(place, "CONN_HEALTH_CHECKS", False)  # or it is noticed before the transaction
        connection.close()
        connection.ensure_connection()
        yield Relay.cut
        connection.close()
        server.shutdown()


def test_a_connection_that_is_cut_as_a_transaction_begins(relay: threading.Event):
    """Two errors arrive for BEGIN: the driver then raises an error of its own, which has no code of the server.

    Of which class, depends on its version.
    """
    relay.set()
    driver = "results from command|consuming input failed"
    with pytest.raises((InternalError, OperationalError), match=driver) as caught, locks.bounded():
        pass
    assert locks.is_away(caught.value)
    answer = problems.answer(caught.value)
    assert answer is not None
    assert (answer.status_code, answer.data["type"]) == (503, "unavailable")


def test_a_delivery_is_asked_for_again(away: Callable[[], None]):
    away()
    headers = {"webhook-id": "1", "webhook-timestamp": "0", "webhook-signature": "v1,x"}
    answer = Client().post("/api/webhooks/shop/", "{}", content_type="application/json", headers=headers)
    assert (answer.status_code, answer["Content-Type"]) == (503, problems.CONTENT_TYPE)
