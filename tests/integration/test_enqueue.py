"""How rows come in: inside the caller's transaction, once per idempotency key, within their bounds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from reportqueue import queue
from reportqueue.errors import IdempotencyKeyReused, RowBusy
from reportqueue.models import ReportQueue
from reportqueue.states import Source, Status
from tests.concurrency import at_once, wait_for_a_blocked_connection


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_enqueue_leaves_nothing():
    with transaction.atomic():
        queue.enqueue(1, 2, idempotency_key="order-7")
        transaction.set_rollback(True)
    assert not ReportQueue.objects.exists()
    assert queue.enqueue(1, 2, idempotency_key="order-7").pk


@pytest.mark.django_db(transaction=True)
def test_a_key_that_the_transaction_can_never_see_is_an_error_and_no_endless_loop():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT 1 FROM reportqueue_reportqueue")  # from here on, it sees no other commit
        (other,) = at_once([lambda: queue.enqueue(1, 2, idempotency_key="order-7")])
        with pytest.raises(RowBusy, match="repeat the transaction"):
            queue.enqueue(1, 2, idempotency_key="order-7")
    assert isinstance(other, ReportQueue)
    assert queue.enqueue(1, 2, idempotency_key="order-7").pk == other.pk


@pytest.mark.django_db(transaction=True)
def test_an_uncommitted_enqueue_is_invisible_to_a_claim():
    with transaction.atomic():
        row = queue.enqueue(1, 2)
        (before,) = at_once([lambda: queue.claim("sensor")])
    (after,) = at_once([lambda: queue.claim("sensor")])
    assert before.rows == []
    assert [claimed.pk for claimed in after.rows] == [row.pk]


def test_an_enqueued_report_is_due_now_unless_told_otherwise(db: None):
    row = queue.enqueue(1, 2)
    assert (row.status, row.source, row.attempt, row.generation) == (Status.QUEUED, Source.CODE, 0, 0)
    assert row.run_key is None
    assert abs(row.trigger_time - timezone.now()) < timedelta(minutes=1)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    assert queue.enqueue(1, 2, trigger_time=later).available_at == later


def test_a_known_key_with_the_same_content_is_the_first_row(db: None):
    first = queue.enqueue(1, 2, params={"b": 1, "a": [2]}, idempotency_key="k")
    queue.claim("sensor")
    again = queue.enqueue(1, 2, params={"a": [2], "b": 1}, idempotency_key="k")
    assert again.pk == first.pk
    assert again.status == Status.CLAIMED


@pytest.mark.parametrize(
    "other", [{"modifier_id": 3}, {"params": {"x": 1}}, {"priority": 1}, {"trigger_time": timezone.now()}]
)
def test_a_known_key_with_other_content_is_refused(db: None, other: dict[str, Any]):
    queue.enqueue(report_id=1, modifier_id=2, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused, match="'k'"):
        queue.enqueue(**({"report_id": 1, "modifier_id": 2, "idempotency_key": "k"} | other))
    assert ReportQueue.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_one_key_from_many_connections_at_once_is_one_row():
    keys = ["a", "b", "c"]
    lists = [
        [queue.NewReport(report_id=1, modifier_id=2, idempotency_key=key) for key in order]
        for order in (keys, keys[::-1], ["b", "a", "c"], ["c", "b", "a"])
    ]
    answers = at_once([lambda reports=reports: queue.enqueue_many(reports) for reports in lists])
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert ReportQueue.objects.count() == 3
    assert sum(done.created for answer in answers for done in answer) == 3


@pytest.mark.django_db(transaction=True)
def test_a_key_that_another_connection_is_about_to_commit_is_waited_for():
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first = queue.enqueue(1, 2, idempotency_key="k")
            second = pool.submit(at_once, [lambda: queue.enqueue(1, 2, idempotency_key="k")])
            wait_for_a_blocked_connection()
        (row,) = second.result(timeout=30)
    assert row.pk == first.pk


@pytest.mark.django_db(transaction=True)
def test_a_list_is_all_or_nothing_and_names_the_place():
    good = queue.NewReport(report_id=1, modifier_id=2)
    with pytest.raises(ValidationError) as refusal:
        queue.enqueue_many([good, good, queue.NewReport(report_id=1, modifier_id=2, priority=101)])
    assert list(refusal.value.message_dict) == ["[2].priority"]
    queue.enqueue(1, 2, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        queue.enqueue_many([good, queue.NewReport(report_id=9, modifier_id=2, idempotency_key="k")])
    assert ReportQueue.objects.count() == 1
    with pytest.raises(IdempotencyKeyReused, match="in this list"):
        queue.enqueue_many(
            [queue.NewReport(report_id=1, modifier_id=n, idempotency_key="twice") for n in (1, 2)],
        )


def test_a_key_twice_in_one_list_is_one_row(db: None):
    same = queue.NewReport(report_id=1, modifier_id=2, idempotency_key="k")
    first, second = queue.enqueue_many([same, same])
    assert (first.row.pk, first.created) == (second.row.pk, True)
    assert ReportQueue.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("report_id", -1),
        ("report_id", 2**63),
        ("modifier_id", "seven"),
        ("modifier_id", "7"),
        ("report_id", 1.9),
        ("report_id", Decimal("2.5")),
        ("report_id", True),
        ("modifier_id", 2.0),
        ("modifier_id", None),
        ("priority", 1.7),
        ("max_attempts", 2.5),
        ("priority", -101),
        ("max_attempts", 0),
        ("max_attempts", 101),
        ("params", []),
        ("params", {"text": "x" * 65_536}),
        ("params", {"text": "a\x00b"}),
        ("params", {"text": "\ud800"}),
        ("params", {"number": float("nan")}),
        ("params", {"date": timezone.now()}),
        ("idempotency_key", ""),
        ("idempotency_key", "x" * 201),
        ("idempotency_key", "a\x00b"),
        ("idempotency_key", 7),
        ("trigger_time", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("trigger_time", datetime(1969, 12, 31, tzinfo=UTC)),
        ("trigger_time", datetime.max.replace(tzinfo=UTC)),
        ("trigger_time", "tomorrow"),
    ],
)
def test_a_value_beyond_its_bound_is_refused_by_name(db: None, field: str, value: Any):
    given = {"report_id": 1, "modifier_id": 2} | {field: value}
    with pytest.raises(ValidationError) as refusal:
        queue.enqueue(**given)
    assert list(refusal.value.message_dict) == [field]
    with pytest.raises(ValidationError) as refusal:
        queue.enqueue_many([queue.NewReport(**given)])
    assert list(refusal.value.message_dict) == [field]
    assert not ReportQueue.objects.exists()


def test_each_number_that_is_refused_is_named_with_its_bounds(db: None):
    with pytest.raises(ValidationError) as refusal:
        queue.enqueue(1.9, 2, priority=101)  # type: ignore[arg-type]
    assert refusal.value.message_dict == {
        "report_id": ["Must be a whole number from 0 to 9,223,372,036,854,775,807."],
        "priority": ["Must be a whole number from -100 to 100."],
    }


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ([{"report_id": 1}], r"`reports\[0\]` must be a NewReport; it is a dict"),
        ([queue.NewReport(report_id=1, modifier_id=2), None], r"`reports\[1\]` must be a NewReport"),
        (queue.NewReport(report_id=1, modifier_id=2), "`reports` must be a list of NewReport; it is a NewReport"),
        ({"report_id": 1}, "`reports` must be a list of NewReport; it is a dict"),
    ],
)
def test_what_is_no_list_of_new_reports_is_refused_by_its_place(db: None, reports: Any, said: str):
    with pytest.raises(TypeError, match=said):
        queue.enqueue_many(reports)
    assert not ReportQueue.objects.exists()


def test_the_bounds_themselves_are_accepted(db: None):
    row = queue.enqueue(2**63 - 1, 0, priority=100, max_attempts=100, idempotency_key="x" * 200)
    assert row.pk
    text = "x" * (64 * 1024 - len('{"t":""}'))
    assert queue.enqueue(1, 2, params={"t": text}).pk
