"""Deliverers are killed and receivers misbehave: each event arrives at least once, in the order of its row."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.utils import timezone

from project.environment import BASE_DIR
from reportqueue import queue
from reportqueue.models import EventDelivery, OutboxEvent, WebhookSubscription
from reportqueue.states import Status
from tests.conftest import build_row
from tests.integration.test_enqueue_due_reports import database_url
from tests.outbox.receiver import OK, Receiver, receiving

pytestmark = pytest.mark.django_db(transaction=True)
POINTS = ("taken", "sent", "recording", "recorded")
HARMLESS = ("500", "garbage", "closes", "closes in the answer", "redirect")
PATIENCE_SECONDS = 60


@contextmanager
def deliverer(point: str = "never", call: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.outbox.mortal", point, str(call)],
        cwd=BASE_DIR,
        env=os.environ | {"DATABASE_URL": database_url()},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def two_events(count: int) -> None:
    """So many rows, each with two events in order."""
    rows = [build_row(status=Status.RUNNING) for _ in range(count)]
    queue.complete_many({row.pk: row.lease_token for row in rows}, results={})
    for row in rows:
        queue.requeue(row.pk)
        queue.cancel(row.pk)


def pending() -> bool:
    return EventDelivery.objects.filter(status="pending").exists()


def await_all(process: subprocess.Popen[bytes]) -> None:
    patience = time.monotonic() + PATIENCE_SECONDS
    while pending():
        assert process.poll() is None, "the deliverer has ended"
        assert time.monotonic() < patience, "it is never delivered"
        time.sleep(0.05)


def judge(receiver: Receiver) -> None:
    """Nothing is lost, all is signed, and the first acceptance of each event is in the order of its row."""
    assert receiver.refused == []
    first: dict[str, tuple[int, str]] = {}
    for got in receiver.accepted:
        first.setdefault(got.message_id, (got.subject, got.payload["type"]))
    assert set(first) == {event.message_id for event in OutboxEvent.objects.all()}
    told: dict[int, list[str]] = {}
    for subject, kind in first.values():
        told.setdefault(subject, []).append(kind)
    assert all(kinds == ["report.succeeded", "report.cancelled"] for kinds in told.values()), told
    assert not EventDelivery.objects.exclude(status="delivered").exists()


def subscribe(receiver: Receiver) -> WebhookSubscription:
    from reportqueue import outbox

    made = WebhookSubscription(url=receiver.url, event_types=["report.succeeded", "report.cancelled"])
    made.save()
    receiver.secrets.append(outbox.secret(made))
    return made


@pytest.mark.parametrize("point", POINTS)
def test_a_deliverer_that_is_killed_loses_nothing(receiver: Receiver, point: str):
    subscribe(receiver)
    two_events(6)
    with deliverer(point, call=3 if point == "sent" else 0) as process:
        process.wait(timeout=PATIENCE_SECONDS)
        assert process.returncode == -9
    assert pending()
    EventDelivery.objects.filter(status="pending").update(due_at=timezone.now())  # as after the lease
    with deliverer() as process:
        await_all(process)
    judge(receiver)
    if point in ("sent", "recording"):
        assert len(receiver.accepted) > 12, "what was not recorded came again"


def test_two_deliverers_share_the_work_and_one_is_killed(receiver: Receiver):
    subscribe(receiver)
    receiver.faults = lambda number: HARMLESS[number // 5 % len(HARMLESS)] if number % 5 == 4 else OK
    patience = time.monotonic() + PATIENCE_SECONDS
    with deliverer("sent", call=4) as first, deliverer() as second:
        while first.poll() is None:  # both have work until one is killed
            two_events(10)
            assert time.monotonic() < patience, "the first one gets no work"
        await_all(second)
    judge(receiver)


@pytest.mark.parametrize("seed", range(4))
def test_five_hundred_faults_lose_nothing(seed: int):
    chance = random.Random(seed)
    with receiving() as receiver:
        one = subscribe(receiver)
        faults = 0

        def fault(number: int) -> str:
            nonlocal faults
            if chance.random() < 0.4:
                faults += 1
                return chance.choice([*HARMLESS, "slow", "410"])
            return OK

        receiver.faults = fault
        two_events(100)
        kills = 0
        while faults + kills < 125 or pending():
            if not pending():
                two_events(30)
            with deliverer(chance.choice(POINTS), call=chance.randrange(40)) as process:
                patience = time.monotonic() + 3
                while process.poll() is None and pending() and time.monotonic() < patience:
                    WebhookSubscription.objects.filter(pk=one.pk, enabled=False).update(enabled=True)  # after a 410
                    time.sleep(0.05)
                kills += process.poll() == -9
            if faults + kills >= 125:
                receiver.faults = lambda number: OK
        assert kills
    judge(receiver)
