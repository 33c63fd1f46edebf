"""Each transition is told after commit, once, and logged without anything confidential."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from django.db import transaction

from reportqueue import queue, schedules
from reportqueue.models import ReportQueue
from reportqueue.signals import Transition, transitioned, transitioned_together
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import build_row, minutes_ago


@pytest.fixture
def told(transactional_db: None) -> Iterator[list[Transition]]:
    heard: list[Transition] = []

    def hear(transition: Transition, **_: object) -> None:
        heard.append(transition)

    transitioned.connect(hear)
    yield heard
    transitioned.disconnect(hear)


def moves(told: list[Transition]) -> list[tuple[str, str, str]]:
    return [(str(move.verb), move.before, move.after) for move in told]


def test_a_whole_life_is_told_in_order(told: list[Transition], settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0}
    row = queue.enqueue(1, 2)
    claim = queue.claim("sensor")
    queue.claim("sensor", ack=claim.claim_id)
    started = queue.start(row.pk, generation=1, run_id="run")
    queue.start(row.pk, generation=1, run_id="run")
    queue.heartbeat(row.pk, lease_token=started.lease_token)
    queue.fail(row.pk, lease_token=started.lease_token, error="x")
    queue.fail(row.pk, lease_token=started.lease_token, error="x")
    queue.claim("sensor")
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    queue.rescue_expired()
    queue.cancel(row.pk)
    queue.requeue(row.pk)
    assert moves(told) == [
        ("enqueue", "", "queued"),
        ("claim", "queued", "claimed"),
        ("acknowledge", "claimed", "dispatched"),
        ("start", "dispatched", "running"),
        ("fail", "running", "queued"),
        ("claim", "queued", "claimed"),
        ("rescue_expired", "claimed", "queued"),
        ("cancel", "queued", "cancelled"),
        ("requeue", "cancelled", "queued"),
    ]
    assert {move.queue_id for move in told} == {row.pk}
    assert (told[4].attempt, told[4].run_id, told[4].claimed_by) == (1, "run", "sensor")


def test_what_is_rolled_back_is_not_told(told: list[Transition]):
    with transaction.atomic():
        queue.enqueue(1, 2)
        transaction.set_rollback(True)
    assert told == []


def test_a_firing_is_told_once_however_many_passes_see_it(told: list[Transition], make_schedule):
    make_schedule(next_run_at=minutes_ago(0))
    at_once([schedules.enqueue_due] * 3)
    assert moves(told) == [("enqueue", "", "queued")]


def test_a_receiver_that_raises_stops_nobody(told: list[Transition], caplog: pytest.LogCaptureFixture):
    def broken(**_: object) -> None:
        raise RuntimeError("metrics are down")

    transitioned.connect(broken)
    try:
        queue.enqueue(1, 2)
    finally:
        transitioned.disconnect(broken)
    assert len(told) == ReportQueue.objects.count() == 1


def test_the_log_has_the_facts_and_no_secret(told: list[Transition], caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="reportqueue")
    row = build_row(status=Status.DISPATCHED, params={"iban": "very confidential"})
    started = queue.start(row.pk, generation=1, run_id="run-7")
    queue.fail(row.pk, lease_token=started.lease_token, error="password=hunter2")
    started_record, failed_record = (record for record in caplog.records if record.name == "reportqueue")
    assert (started_record.action, started_record.status_before, started_record.status_after) == (
        "start",
        "dispatched",
        "running",
    )
    assert (started_record.queue_id, started_record.run_id, started_record.levelname) == (row.pk, "run-7", "INFO")
    assert failed_record.levelname == "WARNING"
    text = " ".join(str(record.__dict__) for record in caplog.records if record.name == "reportqueue")
    for secret in ("confidential", "hunter2", str(started.lease_token)):
        assert secret not in text


def test_rows_that_move_together_share_a_record_that_names_each(
    told: list[Transition], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="reportqueue")
    rows = [build_row(report_id=3, modifier_id=2000 + n) for n in range(120)]
    queue.claim("sensor", limit=120)
    records = [record for record in caplog.records if record.name == "reportqueue"]
    assert [len(record.queue_ids) for record in records] == [100, 20]
    assert sorted(pk for record in records for pk in record.queue_ids) == [row.pk for row in rows]
    for record in records:
        assert (record.action, record.status_before, record.status_after) == ("claim", "queued", "claimed")
        assert not hasattr(record, "queue_id")
    (named,) = [record for record in records if rows[7].pk in record.queue_ids]
    assert f"{rows[7].pk} (3, 2007)" in named.getMessage()
    assert named.getMessage().startswith("claim: 100 reports queued -> claimed: ") or len(named.queue_ids) == 20
    assert len(told) == 120, "each is told to the project's own receivers"


@pytest.mark.django_db(transaction=True)
def test_a_receiver_may_hear_of_all_rows_of_a_call_at_once():
    heard: list[list[Transition]] = []

    def hear(transitions: list[Transition], **_: object) -> None:
        heard.append(transitions)

    transitioned_together.connect(hear)
    try:
        for _ in range(3):
            queue.enqueue(1, 2)
        claim = queue.claim("sensor")
        queue.claim("sensor", ack=claim.claim_id)
    finally:
        transitioned_together.disconnect(hear)
    assert [len(some) for some in heard] == [1, 1, 1, 3, 3]
    assert {(one.verb.value, one.before, one.after, one.claimed_by) for one in heard[-1]} == {
        ("acknowledge", "claimed", "dispatched", "sensor")
    }
