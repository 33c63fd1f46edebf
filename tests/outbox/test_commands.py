"""The processes that deliver: the scheduler, and `deliver_events`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from project.environment import BASE_DIR
from reportqueue import bulk, outbox, queue
from reportqueue.models import EventDelivery
from reportqueue.outbox import sending
from reportqueue.outbox.sending import Answer
from reportqueue.states import Status
from tests.conftest import build_row
from tests.integration.test_enqueue_due_reports import database_url

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_SECONDS = 30
AGES = {
    "reportqueue_reportqueue": "finished_at",
    "reportqueue_bulkaction": "finished_at",
    "reportqueue_outboxevent": "at",
    "reportqueue_eventdelivery": "finished_at",
}
"""By the table: what makes a row old."""


def said(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def fail() -> None:
    row = build_row(status=Status.RUNNING, attempt=1, max_attempts=1)
    queue.fail(row.pk, lease_token=row.lease_token, error="no data")


def until(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.05)


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(
        [sys.executable, "manage.py", *command],
        cwd=BASE_DIR,
        env=os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.outbox.settings"},
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def test_a_single_pass_of_each_command_delivers_what_is_due(subscribe, receiver, settings: Any):
    subscribe()
    fail()
    assert said("deliver_events") == "1 webhooks delivered\n"
    assert said("deliver_events", "--seconds", "5") == "0 webhooks delivered\n"
    fail()
    assert "1 webhooks delivered" in said("enqueue_due_reports")
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_THREADS": 0}
    fail()
    assert "webhooks" not in said("enqueue_due_reports")
    assert said("deliver_events") == "1 webhooks delivered\n"
    assert len(receiver.accepted) == 3
    with pytest.raises(CommandError):
        said("deliver_events", "--seconds", "0")


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """The command's handlers of signals end with the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize("way", ["--seconds=5", "--loop"])
def test_a_deliverer_sends_as_many_at_once_as_it_is_told(subscribe, settings: Any, monkeypatch: Any, way: str):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_THREADS": 0}
    together = threading.Barrier(3)

    def post(url: str, *_: Any) -> Answer:
        try:
            together.wait(timeout=5)  # until three are being sent
            return Answer(200, 1, url)
        finally:
            if way == "--loop":
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sending, "post", post)
    for _ in range(3):
        outbox.send_test(subscribe().pk)
    said("deliver_events", way, "--threads=3")
    assert EventDelivery.objects.filter(status="delivered").count() == 3


@pytest.mark.parametrize("threads", ["0", "101", "-1", "many"])
def test_threads_out_of_bounds_are_refused(threads: str):
    with pytest.raises(CommandError, match="is not a whole number from 1 to 100"):
        said("deliver_events", "--threads", threads)


@pytest.mark.parametrize("command", [["enqueue_due_reports", "--loop"], ["deliver_events", "--loop"]], ids=" ".join)
def test_a_loop_delivers_through_lost_connections_and_ends_on_sigterm(subscribe, receiver, command: list[str]):
    subscribe()
    fail()
    with process(*command) as running:
        until(lambda: len(receiver.accepted) == 1)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
        fail()
        until(lambda: not EventDelivery.objects.filter(status="pending").exists())
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=15) == 0
    assert len({got.message_id for got in receiver.accepted}) == 2
    assert receiver.refused == []


def test_pruning_deletes_events_and_says_how_many(subscribe, receiver):
    subscribe()
    fail()
    outbox.deliver_for(5)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE reportqueue_outboxevent SET at = now() - interval '40 days'")
        cursor.execute("UPDATE reportqueue_eventdelivery SET finished_at = now() - interval '40 days'")
    assert "1 events deleted" in said("prune_report_queue", "--older-than", "90d")


def test_a_dry_run_of_pruning_counts_all_that_it_would_delete(subscribe, receiver):
    subscribe()
    fail()
    outbox.deliver_for(5)
    for status in (Status.SUCCEEDED, Status.FAILED):
        build_row(status=status)
    bulk.stop(bulk.start("cancel", {"report": 1}).pk)
    with connection.cursor() as cursor:
        for table, column in AGES.items():
            cursor.execute(f"UPDATE {table} SET {column} = {column} - interval '90 days'")  # noqa: S608  # names
    command = ("prune_report_queue", "--older-than", "80d")
    asked = said(*command, "--dry-run").splitlines()
    assert asked == [
        "3 finished reports would be deleted.",
        "1 bulk actions would be deleted.",
        "1 events would be deleted.",
    ]
    assert said(*command).splitlines() == [line.replace("would be deleted", "deleted") for line in asked]
    assert said(*command, "--dry-run").count("0 ") == 3
