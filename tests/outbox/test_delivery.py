"""An event's road: written with what it tells, sent, signed, recorded, tried again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from math import inf
from time import perf_counter
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook

from reportqueue import outbox, queue
from reportqueue.models import (
    AuditEntry,
    DeliveryAttempt,
    EventDelivery,
    OutboxEvent,
    ReportQueue,
    WebhookSubscription,
)
from reportqueue.outbox import deliveries, pruning
from reportqueue.states import Status
from tests.outbox.receiver import FAULTS, Receiver, receiving

pytestmark = pytest.mark.django_db(transaction=True)


def complete(row: ReportQueue) -> None:
    queue.complete(row.pk, lease_token=row.lease_token)


def deliver_all() -> None:
    """Until nothing is pending, whatever the delays."""
    for _ in range(200):
        outbox.deliver_for(20)
        pending = EventDelivery.objects.filter(status="pending", subscription__enabled=True)
        if not pending.exists():
            return
        pending.update(due_at=timezone.now())
        WebhookSubscription.objects.update(retry_at=None)
    raise AssertionError("it is never delivered")


def test_a_report_that_fails_for_good_is_told_to_a_receiver_that_checks_the_signature(subscribe, receiver, make_row):
    row = make_row(status=Status.RUNNING, max_attempts=1, attempt=1)
    subscribe()
    queue.fail(row.pk, lease_token=row.lease_token, error="Traceback\nValueError: no data")
    assert outbox.deliver_for(5) == 1
    (got,) = receiver.accepted
    assert receiver.refused == []
    assert got.payload["type"] == "report.failed"
    assert got.payload["data"] | {"queue_id": row.pk, "error": "ValueError: no data"} == got.payload["data"]
    assert got.message_id == OutboxEvent.objects.get().message_id
    (attempt,) = DeliveryAttempt.objects.all()
    assert (attempt.status_code, attempt.answer, attempt.problem) == (200, "thank you", "")
    assert EventDelivery.objects.get().status == "delivered"


def test_nothing_is_written_for_what_nobody_subscribes_to(subscribe, make_row):
    subscribe(event_types=["report.failed"])
    subscribe(event_types=["report.succeeded"], enabled=False)
    subscribe(event_types=["report.succeeded"], report_ids=[7])
    complete(make_row(status=Status.RUNNING))
    assert not OutboxEvent.objects.exists()
    complete(make_row(status=Status.RUNNING, report_id=7))
    assert [one.subscription.report_ids for one in EventDelivery.objects.all()] == [[7]]


def test_what_is_rolled_back_is_not_told(subscribe, make_row):
    subscribe()
    row = make_row(status=Status.RUNNING)
    with transaction.atomic():
        complete(row)
        transaction.set_rollback(True)
    assert not OutboxEvent.objects.exists()


def test_each_end_of_a_row_has_its_event(subscribe, make_row):
    subscribe()
    complete(make_row(status=Status.RUNNING))
    queue.cancel(make_row().pk)
    make_row(expires_at=timezone.now() - timedelta(minutes=1))
    queue.skip_too_late()
    row = make_row(status=Status.RUNNING, attempt=1, max_attempts=1, lease_expires_at=timezone.now() - timedelta(1))
    queue.rescue_expired()
    queue.mark_processed(make_row().pk)
    told = list(OutboxEvent.objects.order_by("id").values_list("type", flat=True))
    assert told == ["report.succeeded", "report.cancelled", "report.skipped", "report.failed", "report.succeeded"]
    assert OutboxEvent.objects.get(type="report.failed").data["queue_id"] == row.pk


def test_a_batch_of_completions_writes_its_events_in_one_statement(subscribe, make_row):
    def statements(count: int) -> int:
        tokens = {row.pk: row.lease_token for row in (make_row(status=Status.RUNNING) for _ in range(count))}
        with CaptureQueriesContext(connection) as seen:
            queue.complete_many(tokens, results={})
        return len(seen)

    statements(1)  # the log's names are remembered from now on
    without = statements(5)
    subscribe()
    assert statements(5) == statements(20) == without + 1
    assert OutboxEvent.objects.count() == 25


@pytest.mark.parametrize("fault", FAULTS)
def test_a_receiver_that_misbehaves_gets_the_event_again(subscribe, receiver: Receiver, make_row, at_once, fault):
    one = subscribe()
    receiver.faults = lambda number: fault if number == 0 else "ok"
    complete(make_row(status=Status.RUNNING))
    if fault == "410":
        outbox.deliver_for(1)
        one.refresh_from_db()
        assert (one.enabled, "410" in one.disabled_reason) == (False, True)
        assert AuditEntry.objects.filter(action="disable", object_id=str(one.pk)).exists()
        one.enabled = True
        one.save()
    deliver_all()
    assert [got.fault for got in receiver.requests] == [fault, "ok"]
    assert len({got.message_id for got in receiver.requests}) == 1
    assert receiver.refused == []
    first = DeliveryAttempt.objects.earliest("id")
    assert "Redirects are not followed" in first.problem if fault == "redirect" else first.problem
    assert first.milliseconds < 3000


def test_a_receiver_that_is_down_gets_the_event_when_it_is_back(subscribe, receiver: Receiver, make_row, at_once):
    subscribe(url="http://127.0.0.1:9/")
    complete(make_row(status=Status.RUNNING))
    outbox.deliver_for(0.2)
    assert "refused" in DeliveryAttempt.objects.earliest("id").problem
    WebhookSubscription.objects.update(url=receiver.url)
    deliver_all()
    assert len(receiver.accepted) == 1


def test_the_events_of_a_row_keep_their_order_and_do_not_hold_up_others(subscribe, receiver, make_row, at_once):
    subscribe()
    first, other = make_row(status=Status.RUNNING), make_row(status=Status.RUNNING)
    complete(first)
    queue.requeue(first.pk)
    queue.cancel(first.pk)
    complete(other)
    receiver.faults = lambda number: "500" if number < 2 else "ok"
    deliver_all()
    told = [(got.subject, got.payload["type"]) for got in receiver.accepted]
    assert [kind for pk, kind in told if pk == first.pk] == ["report.succeeded", "report.cancelled"]
    assert (other.pk, "report.succeeded") in told


def test_an_event_waits_for_the_one_before_until_that_is_given_up(subscribe, receiver, make_row, settings):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_RETRY_SECONDS": 1}
    subscribe()
    row = make_row(status=Status.RUNNING)
    complete(row)
    queue.requeue(row.pk)
    queue.cancel(row.pk)
    first, second = EventDelivery.objects.order_by("id")
    receiver.faults = lambda number: "500"
    outbox.deliver_for(0.3)
    assert {got.payload["type"] for got in receiver.requests} == {"report.succeeded"}
    EventDelivery.objects.filter(pk=first.pk).update(
        first_attempt_at=timezone.now() - timedelta(seconds=2), due_at=timezone.now()
    )
    outbox.deliver_for(0.3)
    first.refresh_from_db()
    assert first.status == "dead"
    assert receiver.requests[-1].payload["type"] == "report.cancelled"
    receiver.faults = lambda number: "ok"
    assert outbox.redeliver([first.pk, second.pk]) == 1
    deliver_all()
    assert {got.payload["type"] for got in receiver.accepted} == {"report.succeeded", "report.cancelled"}


def test_a_rotated_secret_signs_beside_the_one_before(subscribe, receiver, make_row):
    one = subscribe()
    before = receiver.secrets[0]
    receiver.secrets.append(outbox.rotate(one.pk))
    assert len(set(receiver.secrets)) == 2
    complete(make_row(status=Status.RUNNING))
    assert outbox.deliver_for(5) == 1
    assert (len(receiver.accepted), receiver.refused) == (1, [])
    WebhookSubscription.objects.update(previous_until=timezone.now() - timedelta(minutes=1))
    receiver.secrets.remove(before)
    complete(make_row(status=Status.RUNNING))
    assert outbox.deliver_for(5) == 1
    assert receiver.refused == []
    keys = deliveries.receivers()[0].keys
    assert before not in keys
    assert Webhook(keys[0])


def test_a_subscription_that_fails_for_days_is_disabled_and_others_are_told(subscribe, receiver, make_row, at_once):
    subscribe(event_types=["report.succeeded"])
    other = subscribe(event_types=["webhook.disabled"])
    complete(make_row(status=Status.RUNNING))
    receiver.faults = lambda number: "500"
    outbox.deliver_for(0.5)
    stored = WebhookSubscription.objects.exclude(pk=other.pk)
    assert stored.get().enabled
    stored.update(failing_since=timezone.now() - timedelta(days=6), retry_at=None)
    EventDelivery.objects.update(due_at=timezone.now())
    outbox.deliver_for(0.5)
    receiver.faults = lambda number: "ok"
    assert "All attempts have failed since" in stored.get().disabled_reason
    assert not stored.get().enabled
    deliver_all()
    assert receiver.accepted[-1].payload["type"] == "webhook.disabled"
    assert EventDelivery.objects.filter(subscription=stored.get(), status="pending").count() == 1, "it stays"


def test_a_failing_receiver_is_probed_and_gets_the_rest_at_once_when_it_is_back(subscribe, receiver, make_row):
    one = subscribe()
    receiver.faults = lambda number: "500"
    for _ in range(20):
        complete(make_row(status=Status.RUNNING))
    outbox.deliver_for(1)
    asked = len(receiver.requests)
    assert asked <= 20
    one.refresh_from_db()
    assert one.failures >= deliveries.FAILING
    WebhookSubscription.objects.update(retry_at=timezone.now() + timedelta(seconds=60))
    EventDelivery.objects.update(due_at=timezone.now())
    outbox.deliver_for(0.3)
    assert len(receiver.requests) == asked, "it is left alone"
    receiver.faults = lambda number: "ok"
    WebhookSubscription.objects.update(retry_at=None)
    outbox.deliver_for(5)
    assert len(receiver.accepted) == 20
    one.refresh_from_db()
    assert (one.failures, one.failing_since) == (0, None)


def test_a_delivery_whose_lease_has_ended_is_taken_by_another(subscribe, make_row):
    one = subscribe()
    complete(make_row(status=Status.RUNNING))
    (lost,) = deliveries.take({one.pk: 5})
    assert deliveries.take({one.pk: 5}) == []
    EventDelivery.objects.update(due_at=timezone.now())
    (taken,) = deliveries.take({one.pk: 5})
    answer = deliveries.Answer(500, 1, one.url, problem="no")
    deliveries.record([(lost, answer)])
    assert EventDelivery.objects.get().attempts == 0, "its lease is another's"
    deliveries.record([(taken, deliveries.Answer(200, 1, one.url))])
    assert EventDelivery.objects.get().status == "delivered"
    assert DeliveryAttempt.objects.count() == 2


@pytest.fixture
def holding(settings) -> outbox.Deliverer:
    """A deliverer that has no thread free: what it takes waits until it gets some."""
    made = outbox.Deliverer()
    made._threads = 0
    return made


def go_on(held: outbox.Deliverer) -> None:
    held._threads = 4
    while held.step() or held._sending.total():
        pass


def test_what_was_taken_before_an_edit_is_sent_as_edited(subscribe, receiver, make_row, holding):
    one = subscribe(event_types=["report.succeeded"])
    complete(make_row(status=Status.RUNNING))
    holding.step()
    with receiving() as other:
        WebhookSubscription.objects.filter(pk=one.pk).update(url=other.url)
        go_on(holding)
        assert (len(receiver.requests), len(other.requests)) == (0, 1)


@pytest.mark.parametrize("how", ["disabled", "deleted"])
def test_what_was_taken_before_a_subscription_ended_is_not_sent(subscribe, receiver, make_row, holding, how):
    one = subscribe(event_types=["report.succeeded"])
    complete(make_row(status=Status.RUNNING))
    holding.step()
    stored = WebhookSubscription.objects.filter(pk=one.pk)
    if how == "disabled":
        stored.update(enabled=False)
    else:
        stored.delete()
    go_on(holding)
    assert receiver.requests == []
    assert EventDelivery.objects.get().lease_token is None, "it is given back"


def test_what_was_taken_before_a_receiver_failed_is_left_for_its_probes(subscribe, receiver, make_row, holding):
    subscribe(event_types=["report.succeeded"])
    for _ in range(20):
        complete(make_row(status=Status.RUNNING))
    holding.step()
    WebhookSubscription.objects.update(failures=deliveries.FAILING, retry_at=timezone.now() + timedelta(minutes=1))
    go_on(holding)
    assert receiver.requests == []


@pytest.mark.parametrize("answer", ["410", "500"])
def test_the_receiver_at_an_earlier_address_says_nothing_of_the_new_one(subscribe, receiver, make_row, answer):
    one = subscribe(event_types=["report.succeeded"])
    one.failures, one.failing_since = 7, timezone.now() - timedelta(days=9)
    one.save()
    complete(make_row(status=Status.RUNNING))
    (sent,) = deliveries.take({one.pk: 5})
    one.url = receiver.url + "/new"
    one.save(update_fields=["url"])
    deliveries.record([(sent, deliveries.Answer(int(answer), 1, receiver.url, problem=answer))])
    one.refresh_from_db()
    assert (one.enabled, one.failures, one.failing_since) == (True, 0, None)
    assert EventDelivery.objects.get().attempts == 1


def test_each_thread_that_is_free_is_for_the_subscription_that_has_waited_longest(monkeypatch):
    made, began = outbox.Deliverer(), list[int]()
    made._threads, made._each = 4, 2
    monkeypatch.setattr(made._pool, "submit", lambda send, one, receiver: began.append(receiver.pk))
    for pk in (1, 2, 3):
        made._receivers[pk] = deliveries.Receiver(pk, "", [], failing=False, may_be_probed=True)
        made._waiting[pk] = [(deliveries.Taken(number, pk, uuid4(), "", "", None, {}), inf) for number in range(50)]
    for number in range(60):
        made._start()
        made._sending[began[number]] -= 1  # the one that began first ends first
    shares = Counter(began)
    assert min(shares.values()) >= 15, shares


@pytest.mark.parametrize("analyzed", [True, False])
def test_a_few_deliveries_are_taken_at_once_from_a_long_backlog(subscribe, analyzed):
    one = subscribe()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO reportqueue_outboxevent (uid, type, subject, at, data)"
            " SELECT gen_random_uuid(), 'report.late', 'row:' || number, now(), '{}'"
            " FROM generate_series(1, 80000) number"
        )
        cursor.execute(
            "INSERT INTO reportqueue_eventdelivery (event_id, subscription_id, status, attempts, due_at)"
            " SELECT id, %s, 'pending', 0, now() FROM reportqueue_outboxevent",
            [one.pk],
        )
        if analyzed:
            cursor.execute("ANALYZE reportqueue_outboxevent, reportqueue_eventdelivery")
        began = perf_counter()
        assert len(deliveries.take({one.pk: 100})) == 100
        assert perf_counter() - began < 0.5


def test_old_events_are_pruned_and_pending_ones_stay(subscribe, receiver, make_row, monkeypatch: pytest.MonkeyPatch):
    subscribe()
    complete(make_row(status=Status.RUNNING))
    outbox.deliver_for(5)
    complete(make_row(status=Status.RUNNING))
    late = make_row(deadline_at=timezone.now() - timedelta(minutes=1))
    outbox.watch()
    deliver_late = EventDelivery.objects.filter(event__type="report.late")
    deliver_late.update(status="delivered", finished_at=timezone.now())
    old = timezone.now() - timedelta(days=40)
    OutboxEvent.objects.update(at=old)
    assert list(outbox.prune()) == [], "they ended a moment ago"
    EventDelivery.objects.exclude(finished_at=None).update(finished_at=old)
    monkeypatch.setattr(pruning, "PRUNE_BATCH", 1)
    assert outbox.count_prunable() == 1
    assert list(outbox.prune(batch=1)) == [1]
    assert outbox.count_prunable() == 0
    assert set(OutboxEvent.objects.values_list("type", flat=True)) == {"report.succeeded", "report.late"}
    queue.cancel(late.pk)
    assert outbox.count_prunable() == 1, "beyond the one that stays"
    assert list(outbox.prune(batch=1)) == [1]
    assert DeliveryAttempt.objects.count() == 0


def test_what_is_sent_again_while_old_events_are_pruned_stays(subscribe, receiver, make_row, monkeypatch):
    subscribe()
    complete(make_row(status=Status.RUNNING))
    outbox.deliver_for(5)
    old = timezone.now() - timedelta(days=40)
    OutboxEvent.objects.update(at=old)
    EventDelivery.objects.update(finished_at=old)
    found = pruning._next

    def again(after: int, batch: int) -> tuple[list[int], int | None]:
        monkeypatch.setattr(pruning, "_next", found)
        before = found(after, batch)
        in_another_session(lambda: outbox.redeliver([EventDelivery.objects.get().pk]))
        return before

    monkeypatch.setattr(pruning, "_next", again)
    assert sum(outbox.prune()) == 0
    deliver_all()
    assert len(receiver.accepted) == 2


def in_another_session(call: Callable[[], object]) -> None:
    def run() -> None:
        call()
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def _backoffs() -> list[float]:
    return [deliveries.backoff(attempts).total_seconds() for attempts in range(1, 30)]


def test_delays_grow_to_a_bound_and_differ():
    found = _backoffs()
    assert 4 <= found[0] <= 6
    assert all(delay <= 6 * 3600 * 1.2 for delay in found)
    assert found != _backoffs()
