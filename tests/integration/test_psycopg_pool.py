"""With psycopg's own pool, `"OPTIONS": {"pool": True}`: a wait holds none of its connections, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from psycopg_pool import ConnectionPool
from requests import Response

from project.environment import BASE_DIR
from reportqueue import queue, tokens
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
from reportqueue.triggers import asset_events
from reportqueue.wakeup import claims
from reportqueue.wakeup.listening import Address
from tests.conftest import build_schedule
from tests.dagster_reportqueue.waiting import until
from tests.integration.test_enqueue_due_reports import database_url
from tools.runner.stack import free_port

SIZE = 2
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectionPool[Any]]:
    """The pool of this process: all of Django's connections come from it."""
    connection.close()
    options = {"min_size": 1, "max_size": SIZE, "timeout": 2}
    changed = {
        "OPTIONS": {**connection.settings_dict["OPTIONS"], "pool": options},
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
    }
    with monkeypatch.context() as patched:
        for name, value in changed.items():
            patched.setitem(connection.settings_dict, name, value)
        made = connection.pool  # type: ignore[attr-defined]
        made.open(wait=True)
        yield made
        connection.close()
        until(lambda: all_are_back(made), what="a connection that nobody gives back")
        connection.close_pool()


def all_are_back(pool: ConnectionPool[Any]) -> bool:
    """Whether the pool has every connection that it has made."""
    found = pool.get_stats()
    return found["pool_available"] == found["pool_size"] and not found["requests_waiting"]


@pytest.fixture
def post(pool: ConnectionPool[Any], live_server: Any) -> Callable[..., Response]:
    """Posts to a web app with threads."""
    user = User.objects.create_superuser("root")
    headers = {"Authorization": f"Token {tokens.issue(user, name='test').key}"}
    connection.close()

    def call(path: str, **body: Any) -> Response:
        return requests.post(f"{live_server.url}/api/{path}", json=body, headers=headers, timeout=40)

    return call


def test_more_claims_wait_than_the_pool_has_connections(post: Callable[..., Response], pool: ConnectionPool[Any]):
    waiting = range(2 * SIZE)
    with ThreadPoolExecutor(len(waiting)) as threads:
        claim = partial(post, "report-queue/claim/", limit=1, wait_seconds=20)
        answers = [threads.submit(claim, consumer=f"sensor-{number}") for number in waiting]
        until(
            lambda: claims.listener._waiters.total() == len(waiting) and claims.listener.hears, what="the claims wait"
        )
        until(lambda: all_are_back(pool), what="the waiting claims hold connections")
        for number in waiting:
            assert post("report-queue/", report_id=1, modifier_id=number).status_code == 201
        claimed = [answer.result(30).json()["queue"] for answer in answers]
    assert sorted(item["modifier_id"] for items in claimed for item in items) == list(waiting)


def test_the_listener_is_no_connection_of_the_pool(pool: ConnectionPool[Any]):
    with claims.listener.waiting():
        until(lambda: claims.listener.hears, what="a notice arrives")
        assert "pool" not in Address.of().parameters
        with Address.of().connect_directly("test") as direct:
            found = direct.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
                [claims.NAME],
            ).fetchone()
        assert found == (1,)
        until(lambda: all_are_back(pool), what="the listener holds a connection")


def test_a_call_that_gets_no_connection_is_told_to_come_again(post: Callable[..., Response], pool: ConnectionPool[Any]):
    with ExitStack() as taken:
        for _ in range(SIZE):
            taken.enter_context(pool.connection())
        refused = post("report-queue/", report_id=1, modifier_id=2)
    assert (refused.status_code, refused.json()["type"], refused.headers["Retry-After"]) == (503, "unavailable", "1")
    assert post("report-queue/", report_id=1, modifier_id=2).status_code == 201


def test_a_connection_that_the_server_has_ended_is_not_given_out(pool: ConnectionPool[Any]):
    queue.enqueue(1, 2)
    connection.close()
    with Address.of().connect_directly("test") as direct:
        direct.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    assert len(queue.claim("sensor").rows) == 1


def test_the_thread_that_tells_dagster_gives_its_connection_back(
    pool: ConnectionPool[Any], settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.REPORTQUEUE = {"DAGSTER_URL": f"http://127.0.0.1:{free_port()}"}
    monkeypatch.setattr(asset_events, "PAUSES_SECONDS", ())
    build_schedule()
    connection.close()
    until(lambda: not [one for one in threading.enumerate() if one.name == "reportqueue-asset-events"])
    until(lambda: all_are_back(pool), what="the thread has left its connection")


def test_the_scheduler_listens_beside_its_pool_and_ends_without_a_trace():
    name = f"pooled-{os.getpid()}"
    loop = subprocess.Popen(
        [sys.executable, "manage.py", "enqueue_due_reports", "--loop", "--interval", "30"],
        cwd=BASE_DIR,
        env={
            **os.environ,
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.integration.pooled",
            "PGAPPNAME": name,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: backends("reportqueue-scheduler"), 60, what="the scheduler listens")
        schedule = build_schedule()
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now())
        until(lambda: ReportQueue.objects.filter(status=Status.QUEUED).exists(), what="the scheduler is notified")
        assert backends(name) >= 1
        loop.send_signal(signal.SIGTERM)
        _, err = loop.communicate(timeout=20)
    finally:
        loop.kill()
        loop.communicate()
    assert loop.returncode == 0
    assert [line for line in err.splitlines() if " reportqueue: " not in line] == [], "it ends without a complaint"
    until(lambda: not backends(name), what="its connections end")


def backends(name: str) -> int:
    """How many connections there are under this name."""
    with connection.cursor() as cursor:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
        cursor.execute(query, [name])
        return int(cursor.fetchone()[0])
