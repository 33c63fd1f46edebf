"""The table of transitions, verb by status: what is not in it is refused, changing nothing; and the database agrees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from reportqueue import queue
from reportqueue.conf import conf
from reportqueue.errors import ReportQueueError
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.queue import claim_sql
from reportqueue.states import FINAL, TRANSITIONS, WITH_CONSUMER, Status, Verb
from tests.conftest import RowFactory, minutes_ago

Act = Callable[[ReportQueue], Any]


def expire(row: ReportQueue) -> None:
    if row.lease_expires_at:
        ReportQueue.objects.filter(pk=row.pk).update(lease_expires_at=minutes_ago(1))
    queue.rescue_expired()


def come_too_late(row: ReportQueue) -> None:
    ReportQueue.objects.filter(pk=row.pk).update(expires_at=minutes_ago(1))
    if row.status in WITH_CONSUMER:
        _, refusal = queue.start_many({row.pk: row.generation}, run_id="late").popitem()
        assert isinstance(refusal, ReportQueueError)
    else:
        queue.skip_too_late()


ACTS: dict[Verb, list[Act]] = {
    Verb.CLAIM: [lambda row: queue.claim("another")],
    # Without the claim that follows: it would hand out the row.
    Verb.ACKNOWLEDGE: [lambda row: claim_sql.acknowledge("sensor", "", row.claim_id or uuid4(), timedelta(minutes=1))],
    Verb.START: [
        lambda row: queue.start(row.pk, generation=max(row.generation, 1), run_id="r"),
        lambda row: queue.start(row.pk, generation=max(row.generation, 1), run_id="r", parent_run_id=row.run_id),
    ],
    Verb.COMPLETE: [lambda row: queue.complete(row.pk, lease_token=row.lease_token or uuid4())],
    Verb.FAIL: [
        lambda row: queue.fail(row.pk, lease_token=row.lease_token or uuid4(), error="x"),
        lambda row: queue.fail(row.pk, lease_token=row.lease_token or uuid4(), error="x", retryable=False),
        lambda row: queue.fail_launch(row.pk, generation=max(row.generation, 1), run_id="r", error="x"),
    ],
    Verb.RELEASE: [
        lambda row: queue.release(row.pk, lease_token=row.lease_token or uuid4()),
        lambda row: queue.release_claimed(row.pk, claim_id=row.claim_id or uuid4()),
    ],
    Verb.CANCEL: [
        lambda row: queue.cancel(row.pk),
        lambda row: queue.cancel(row.pk, lease_token=row.lease_token or uuid4()),
    ],
    Verb.MARK_PROCESSED: [lambda row: queue.mark_processed(row.pk)],
    Verb.REQUEUE: [lambda row: queue.requeue(row.pk)],
    Verb.RESCUE: [expire],
    Verb.EXPIRE: [come_too_late],
}


def changed(row: ReportQueue, act: Act) -> Status | None:
    """The status after the act; None if it was refused or left everything as it was."""
    before = ReportQueue.objects.values().get(pk=row.pk), list(ReportAttempt.objects.values())
    try:
        with transaction.atomic():
            act(row)
    except ReportQueueError:
        assert (ReportQueue.objects.values().get(pk=row.pk), list(ReportAttempt.objects.values())) == before
        return None
    after = Status(ReportQueue.objects.get(pk=row.pk).status)
    return after if after != before[0]["status"] else None


@pytest.mark.parametrize("verb", list(TRANSITIONS))
@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("variant", ["plain", "last attempt", "cancel requested"])
def test_a_verb_moves_a_row_as_the_table_says_and_no_other_way(
    make_row: RowFactory, verb: Verb, status: Status, variant: str
):
    reached = set()
    for act in ACTS[verb]:
        fields: dict[str, Any] = {"status": status, "generation": 1}
        if variant == "last attempt" and status is Status.RUNNING:
            fields["max_attempts"] = 1
        if variant == "last attempt" and status in WITH_CONSUMER:
            fields["unstarted_runs"] = conf().max_unstarted_runs - 1
        if variant == "cancel requested" and status is Status.RUNNING:
            fields["cancel_requested"] = True
        if (after := changed(make_row(**fields), act)) is not None:
            reached.add(after)
            ReportQueue.objects.all().delete()
    assert reached <= set(TRANSITIONS[verb].get(status, ()))
    if variant == "plain" and status is not Status.CANCELLED:
        # A row cancelled before it ever ran has no last run to execute again.
        assert bool(reached) == bool(TRANSITIONS[verb].get(status))


def test_final_statuses_are_left_by_requeue_and_re_execution_alone():
    for verb, moves in TRANSITIONS.items():
        if verb not in (Verb.REQUEUE, Verb.START):
            assert not moves.keys() & FINAL
    assert all(Status.SKIPPED not in moves for moves in TRANSITIONS.values())


@pytest.mark.parametrize(
    ("status", "wrong", "constraint"),
    [
        (Status.QUEUED, {"status": "lost"}, "status"),
        (Status.QUEUED, {"report_id": -1}, "ids"),
        (Status.QUEUED, {"priority": 101}, "priority"),
        (Status.QUEUED, {"max_attempts": 0}, "max_attempts"),
        (Status.QUEUED, {"attempt": 4}, "attempts_bounded"),
        (Status.QUEUED, {"finished_at": minutes_ago(1)}, "finished_iff_final"),
        (Status.SUCCEEDED, {"finished_at": None}, "finished_iff_final"),
        (Status.QUEUED, {"lease_expires_at": minutes_ago(1)}, "lease_iff_leased"),
        (Status.CLAIMED, {"lease_expires_at": None}, "lease_iff_leased"),
        (Status.RUNNING, {"lease_token": None}, "token_iff_running"),
        (Status.RUNNING, {"run_id": ""}, "token_iff_running"),
        (Status.SUCCEEDED, {"lease_token": uuid4()}, "token_iff_running"),
        (Status.CLAIMED, {"claim_id": None}, "claim_names_its_consumer"),
        (Status.DISPATCHED, {"claimed_by": ""}, "claim_names_its_consumer"),
        (Status.CLAIMED, {"generation": 0}, "claim_names_its_consumer"),
        (Status.QUEUED, {"cancel_requested": True}, "cancel_asked_only_of_runs"),
    ],
)
def test_the_database_refuses_a_row_that_contradicts_itself(
    make_row: RowFactory, status: Status, wrong: dict[str, Any], constraint: str
):
    row = make_row(status=status)
    with pytest.raises(IntegrityError, match=f"reportqueue_{constraint}"), transaction.atomic():
        ReportQueue.objects.filter(pk=row.pk).update(**wrong)


def test_the_database_refuses_a_second_open_attempt(make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    with pytest.raises(IntegrityError, match="reportqueue_attempt_one_open"), transaction.atomic():
        ReportAttempt.objects.create(
            queue=row, generation=1, attempt=2, run_id="other", lease_token=uuid4(), started_at=minutes_ago(1)
        )


@pytest.mark.parametrize("status", list(Status))
def test_processed_says_whether_a_row_is_final(make_row: RowFactory, status: Status):
    row = make_row(status=status)
    row.refresh_from_db()
    assert row.processed == (status in FINAL)
