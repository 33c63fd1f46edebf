"""The database's clock was set back: what was noted while it was ahead holds up nothing for as long as that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from reportqueue import outbox, queue
from reportqueue.models import Alert, AlertRule, EventDelivery, WebhookSubscription
from reportqueue.outbox import alerts, deliveries
from reportqueue.states import Status
from tests.concurrency import at_once as together
from tests.conftest import build_row
from tests.outbox.conftest import Subscribe
from tests.outbox.receiver import Receiver
from tests.outbox.test_commands import until

pytestmark = pytest.mark.django_db(transaction=True)
HOURS = timedelta(hours=3)


def happen() -> None:
    """Events of a row, for whom they concern."""
    row = build_row(status=Status.RUNNING, attempt=1, max_attempts=1)
    queue.fail(row.pk, lease_token=row.lease_token, error="ValueError: no data")


def set_back(**fields: Any) -> None:
    """As if all deliveries had been noted before."""
    EventDelivery.objects.update(due_at=F("due_at") + HOURS, **fields)


def test_new_deliveries_are_sent(subscribe: Subscribe, receiver: Receiver):
    subscribe()
    happen()
    set_back()
    assert outbox.deliver_for(5) == 1
    assert len(receiver.accepted) == 1


def test_the_loop_sends_them_too(subscribe: Subscribe, receiver: Receiver):
    subscribe()
    happen()
    set_back()
    with outbox.in_background():
        until(lambda: len(receiver.accepted) == 1)


@pytest.mark.parametrize(
    ("fields", "ahead", "held"),
    [
        ({"attempts": 0}, 50, False),
        ({"attempts": 0}, 70, True),
        ({"attempts": 1}, 60, False),
        ({"attempts": 1}, 70, True),
        ({"attempts": 5}, 480, False),
        ({"attempts": 5}, 560, True),
        ({"attempts": 60}, 7.2 * 3600, False),
        ({"attempts": 60}, 7.3 * 3600, True),
        ({"lease_token": "5f0d7f6e-1c8b-4f4e-9f0e-0d7f1c1b2a3d"}, 140, False),
        ({"lease_token": "5f0d7f6e-1c8b-4f4e-9f0e-0d7f1c1b2a3d"}, 160, True),
    ],
)
def test_what_is_further_ahead_than_its_longest_delay_is_due_at_once(
    subscribe: Subscribe, fields: dict[str, Any], ahead: float, held: bool
):
    one = subscribe()
    happen()
    EventDelivery.objects.update(due_at=timezone.now() + timedelta(seconds=ahead), **fields)
    assert deliveries.free_held() == held
    assert len(deliveries.take({one.pk: 5})) == held


def test_delays_as_they_are_are_kept(subscribe: Subscribe, receiver: Receiver):
    subscribe()
    receiver.faults = lambda number: "500"
    for _ in range(5):
        happen()
        outbox.deliver_for(0.2)
    WebhookSubscription.objects.update(failures=0)
    assert EventDelivery.objects.filter(status="pending", due_at__gt=timezone.now()).exists()
    assert deliveries.free_held() == 0


def test_the_lease_of_one_that_died_is_taken_and_what_it_says_later_does_not_count(subscribe: Subscribe):
    one = subscribe()
    happen()
    (lost,) = deliveries.take({one.pk: 5})
    set_back()
    assert deliveries.free_held() == 1
    (taken,) = deliveries.take({one.pk: 5})
    deliveries.record([(lost, deliveries.Answer(500, 1, one.url, problem="no"))])
    assert EventDelivery.objects.get().attempts == 0
    assert taken.pk == lost.pk


def test_a_delivery_that_is_held_by_a_transaction_is_left(subscribe: Subscribe):
    subscribe()
    happen()
    set_back()
    with transaction.atomic():
        EventDelivery.objects.select_for_update().get()
        (done,) = together([deliveries.free_held])
    assert done == 0
    assert deliveries.free_held() == 1


def test_a_subscription_that_fails_is_probed(subscribe: Subscribe):
    subscribe()
    for ahead, probed in ((60, False), (350, False), (HOURS.total_seconds(), True)):
        WebhookSubscription.objects.update(failures=9, retry_at=timezone.now() + timedelta(seconds=ahead))
        assert deliveries.receivers()[0].may_be_probed == probed, ahead


@pytest.fixture
def rule() -> AlertRule:
    made = AlertRule(name="ops", condition="failed", emails=["desk@example.com"])
    made.save()
    return made


def test_events_are_counted_and_told(rule: AlertRule):
    happen()
    set_back()
    alerts.step()
    assert Alert.objects.count() == 1
    alerts.step()
    assert mail.outbox == [], "it waits for others"
    Alert.objects.update(since=F("since") + HOURS)
    alerts.step()
    assert len(mail.outbox) == 1


def test_a_rule_is_tried_again_and_its_quiet_period_is_not_longer(rule: AlertRule):
    happen()
    alerts.step()
    Alert.objects.update(since=F("since") - HOURS)
    AlertRule.objects.update(retry_at=timezone.now() + timedelta(seconds=280))
    alerts.step()
    assert mail.outbox == [], "another process may be sending it"
    AlertRule.objects.update(retry_at=timezone.now() + HOURS)
    alerts.step()
    assert len(mail.outbox) == 1
    happen()
    alerts.step()
    assert len(mail.outbox) == 1, "the quiet period"
    Alert.objects.update(told_at=F("told_at") + HOURS)
    alerts.step()
    assert len(mail.outbox) == 2
