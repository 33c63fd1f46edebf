"""Subscriptions come and go beside transactions: an event is written for all or for none of its deliveries."""

from __future__ import annotations

import threading

import pytest
from django.db import connections, transaction

from reportqueue import queue
from reportqueue.models import EventDelivery, OutboxEvent, WebhookSubscription
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import build_row

pytestmark = pytest.mark.django_db(transaction=True)


def subscription() -> WebhookSubscription:
    made = WebhookSubscription(url="https://example.com/", event_types=["report.succeeded"])
    made.save()
    return made


def test_a_subscription_gets_what_is_written_after_its_commit(make_row):
    first, second = make_row(status=Status.RUNNING), make_row(status=Status.RUNNING)
    written, go = threading.Event(), threading.Event()

    def subscribe_slowly() -> None:
        try:
            with transaction.atomic():
                subscription()
                written.set()
                assert go.wait(20)
        finally:
            connections.close_all()

    other = threading.Thread(target=subscribe_slowly)
    other.start()
    assert written.wait(20)
    with transaction.atomic():
        queue.complete(first.pk, lease_token=first.lease_token)  # it neither waits for the other nor sees it
        go.set()
        other.join()
        queue.complete(second.pk, lease_token=second.lease_token)
    assert [event.subject for event in OutboxEvent.objects.all()] == [f"row:{second.pk}"]
    assert EventDelivery.objects.count() == 1


def test_a_completion_does_not_wait_for_an_edit_of_a_subscription(make_row):
    one = subscription()
    row = make_row(status=Status.RUNNING)
    with transaction.atomic():
        WebhookSubscription.objects.select_for_update().get(pk=one.pk)
        (done,) = at_once([lambda: queue.complete(row.pk, lease_token=row.lease_token)])
    assert not isinstance(done, Exception), done
    assert EventDelivery.objects.count() == 1


def test_no_event_is_without_its_deliveries_while_subscriptions_come_and_go():
    rows = [build_row(status=Status.RUNNING) for _ in range(200)]

    def come_and_go() -> None:
        for _ in range(40):
            subscription().delete()

    def complete(some: list) -> None:
        for row in some:
            queue.complete(row.pk, lease_token=row.lease_token)

    done = at_once([come_and_go, lambda: complete(rows[::2]), lambda: complete(rows[1::2])])
    assert not [one for one in done if isinstance(one, Exception)]
    delivered = set(EventDelivery.objects.values_list("event_id", flat=True))
    assert {event.pk for event in OutboxEvent.objects.all()} == delivered
