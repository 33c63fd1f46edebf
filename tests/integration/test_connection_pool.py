"""Through PgBouncer with `pool_mode = transaction`: everything but LISTEN, which leaves nothing behind there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.utils import timezone

from project.environment import BASE_DIR
from reportqueue import keyset, queue, schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.wakeup import claims
from reportqueue.wakeup.listening import Address, Pooled
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.dagster_reportqueue import waiting
from tests.integration.test_api_claim import waiting_claim
from tests.integration.test_enqueue_due_reports import until
from tests.pgbouncer import POOLED, needs_pgbouncer, pgbouncer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nobody_listens() -> None:
    """A thread that has listened for the test before goes on for a moment, where that one's database was."""
    waiting.until(lambda: claims.listener._thread is None, what="the end of the listener")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[int]:
    """The port of a PgBouncer before the tests' server. Each transaction gets another of its connections."""
    server = connection.settings_dict
    with pgbouncer(tmp_path / "pool", server, server["NAME"]) as port:
        yield port


def through(port: int) -> dict[str, Any]:
    """The parameters of a connection through the pool."""
    return {**connection.get_connection_params(), "host": "127.0.0.1", "port": str(port)}


@contextmanager
def django_through(port: int) -> Iterator[None]:
    """Django's own connections of this process go through the pool."""
    connection.close()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {"HOST": "127.0.0.1", "PORT": str(port)}.items():
            patched.setitem(connection.settings_dict, name, value)
        yield
        connection.close()


def channels(port: int) -> set[str]:
    """What is listened for on the connections that the pool has."""
    found: dict[int, list[str]] = {}
    with psycopg.connect(**through(port), autocommit=True) as asking:
        for _ in range(20 * POOLED):
            row = asking.execute("SELECT pg_backend_pid(), ARRAY(SELECT pg_listening_channels())").fetchone()
            assert row is not None
            found[row[0]] = row[1]
    assert len(found) == POOLED, "the pool has to give its clients its connections in turn"
    return {channel for listened in found.values() for channel in listened}


@contextmanager
def manage(port: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command of `manage.py` that reaches its database through the pool."""
    server = connection.settings_dict
    url = f"postgresql://{server['USER'] or 'postgres'}@127.0.0.1:{port}/{server['NAME']}"
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env=os.environ | {"DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@needs_pgbouncer
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare_patterns", "--hours", "1"], "Nothing differs: 1,500 schedules"),
        (["enqueue_due_reports", "--dry-run"], "1000 or more due; nothing was changed."),
        (["enqueue_due_reports"], "1,500 enqueued"),
        (["prune_report_queue", "--older-than", "1d"], "0 finished reports deleted."),
        (["switch_pattern", "--to", "cron", "--dry-run"], "Would be handed over"),
        (["check"], "no issues"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_works_through_a_pool(pool: int, arguments: list[str], said: str):
    # More than one query's worth of schedules.
    due = timezone.now().replace(second=0, microsecond=0)
    ReportSchedule.objects.bulk_create(
        ReportSchedule(report_id=n, modifier_id=2, cron=f"{due:%M %H} * * *", next_run_at=due, plan_needed=False)
        for n in range(1_500)
    )
    with manage(pool, *arguments) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert said in out
    assert channels(pool) == set()


def test_no_command_holds_a_cursor_in_the_server(monkeypatch: pytest.MonkeyPatch):
    """A pool gives the connection with the cursor to another client."""

    def refused() -> None:
        raise AssertionError("a cursor in the server")

    monkeypatch.setattr(keyset, "CHUNK", 2)
    made = [build_schedule(next_run_at=minutes_ago(1)).pk for _ in range(5)]
    monkeypatch.setattr(connection, "chunked_cursor", refused)
    now = timezone.now()
    assert [one.schedule.pk for one in schedules.compare(now, now + timedelta(hours=1))] == made
    assert [firing.schedule_id for firing in schedules.preview(100).firings] == made
    assert [firing.schedule_id for firing in schedules.preview(3).firings] == made[:3]


@needs_pgbouncer
def test_a_waiting_claim_polls_behind_a_pool_and_leaves_nothing_there(
    pool: int, monkeypatch: pytest.MonkeyPatch, settings: Any, caplog: pytest.LogCaptureFixture
):
    settings.REPORTQUEUE = {"WAIT_POLL_SECONDS": 0.1}
    monkeypatch.setattr(claims, "DEAF_SECONDS", 0.2)
    monkeypatch.setattr(claims.listener, "_warned_of_pool", False)

    def wait_and_enqueue() -> None:
        time.sleep(1)  # meanwhile it looks several times whether the pool is still there
        queue.enqueue(7, 8)

    with django_through(pool):
        assert len(waiting_claim(monkeypatch, wait_and_enqueue)["queue"]) == 1
        assert not claims.listener.hears
    assert channels(pool) == set()
    assert len([text for text in caplog.messages if "LISTEN_DATABASE" in text]) == 1


@needs_pgbouncer
def test_a_direct_connection_beside_the_pool_is_listened_on(pool: int, monkeypatch: pytest.MonkeyPatch, settings: Any):
    direct = dict(connection.settings_dict)
    monkeypatch.setitem(connections.databases, "direct", direct)
    monkeypatch.setitem(settings.DATABASES, "direct", direct)
    settings.REPORTQUEUE = {"WAIT_POLL_SECONDS": 25, "LISTEN_DATABASE": "direct"}

    def heard_and_enqueue() -> None:
        patience = time.monotonic() + 15
        while not claims.listener.hears:
            assert time.monotonic() < patience, "it does not hear its own call through the pool"
            time.sleep(0.02)
        queue.enqueue(7, 8)

    with django_through(pool):
        assert len(waiting_claim(monkeypatch, heard_and_enqueue)["queue"]) == 1
    assert channels(pool) == set()


@needs_pgbouncer
def test_a_scheduler_behind_a_pool_polls_for_changes_and_leaves_nothing_there(pool: int):
    schedule = build_schedule()
    with manage(pool, "enqueue_due_reports", "--loop", "--interval", "0.3") as loop:
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now())
        until(ReportQueue.objects.exists, loop, "nothing was enqueued")  # type: ignore[arg-type]
        time.sleep(1)
        assert channels(pool) == set()
        loop.send_signal(signal.SIGTERM)
        _, err = loop.communicate(timeout=20)
    assert loop.returncode == 0
    assert err.count("LISTEN_DATABASE") == 1


@needs_pgbouncer
def test_a_pool_is_told_from_a_server(pool: int, monkeypatch: pytest.MonkeyPatch):
    Address.of().connect_directly("test").close()
    with django_through(pool):
        for _ in range(10):
            with pytest.raises(Pooled, match="LISTEN_DATABASE"):
                Address.of().connect_directly("test")


@needs_pgbouncer
def test_claims_leave_no_plans_behind_a_pool(pool: int):
    """Another session would be asked for them."""
    made = {build_row().pk for _ in range(40)}
    with django_through(pool):
        ack, found = None, set()
        for _ in range(40):
            claim = queue.claim("sensor", ack=ack, limit=1)
            ack = claim.claim_id
            found |= {row.pk for row in claim.rows}
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_prepared_statements")
                assert cursor.fetchone() == (0,)
    assert found == made


def test_who_listens_takes_the_role_that_django_takes(monkeypatch: pytest.MonkeyPatch):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        (login,) = cursor.fetchone()
        cursor.execute("DROP ROLE IF EXISTS reportqueue_reader")
        cursor.execute("CREATE ROLE reportqueue_reader")
        try:
            monkeypatch.setitem(connection.settings_dict["OPTIONS"], "assume_role", "reportqueue_reader")
            with Address.for_listening().connect_directly("test") as made:
                assert made.execute("SELECT session_user, current_user").fetchone() == (login, "reportqueue_reader")
        finally:
            cursor.execute("DROP ROLE reportqueue_reader")
