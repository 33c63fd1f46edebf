"""What people do to subscriptions and deliveries: rotate a secret, send a test, have a delivery sent again."""

from __future__ import annotations

from collections.abc import Collection
from uuid import uuid4

from django.db.models import Q

from reportqueue import audit, locks, webhook_secrets
from reportqueue.clock import ClockTimestamp, database_now
from reportqueue.errors import DeliveryNotFound, DeliveryRefused, SubscriptionNotFound
from reportqueue.models import EventDelivery, OutboxEvent, WebhookSubscription
from reportqueue.models.audit import Kind
from reportqueue.models.event import DeliveryStatus, EventType
from reportqueue.webhook_secrets import OUTGOING, ROTATION, new_seed


def secret(subscription: WebhookSubscription) -> str:
    """The secret with which its receiver checks signatures, `whsec_...`: shown once, when it is made or rotated."""
    return webhook_secrets.current(subscription.seed, OUTGOING)


def rotate(pk: int) -> str:
    """Make a new secret; for another `ROTATION`, events are signed with both. Raises `SubscriptionNotFound`."""
    with locks.bounded():
        one = _locked(pk)
        one.previous_seed, one.seed = one.seed, new_seed()
        one.previous_until = database_now() + ROTATION
        one.save(update_fields=["seed", "previous_seed", "previous_until"])
    return secret(one)


def send_test(pk: int) -> EventDelivery:
    """Queue a test event for this subscription alone.

    Raises `SubscriptionNotFound`, and `DeliveryRefused` if it is not enabled.
    """
    with locks.bounded():
        one = _locked(pk)
        if not one.enabled:
            raise DeliveryRefused("The subscription is not enabled: enable it before a test.")
        uid = uuid4()
        data = {"subscription_id": pk, "text": "This is a test. It was sent by a person."}
        event = OutboxEvent.objects.create(uid=uid, type=EventType.TEST, subject=f"test:{uid}", data=data)
        made = EventDelivery.objects.create(event=event, subscription=one)
        audit.record("test", Kind.SUBSCRIBER, pk, label=str(one))
    return made


def redeliver(pks: Collection[int]) -> int:
    """Have deliveries that were given up or delivered sent again, under the same id; how many there were.

    They get all attempts afresh. Events of the same subject that follow wait for them. Pending ones are left alone.
    """
    with locks.bounded():
        ended = EventDelivery.objects.to_people().filter(~Q(status=DeliveryStatus.PENDING), pk__in=pks).order_by("pk")
        found = list(ended.select_for_update(of=("self",)).values_list("pk", flat=True))
        EventDelivery.objects.filter(pk__in=found).update(
            status=DeliveryStatus.PENDING,
            finished_at=None,
            first_attempt_at=None,
            attempts=0,
            due_at=ClockTimestamp(),
            lease_token=None,
        )
        audit.record_each("redeliver", Kind.DELIVERY, found)
    return len(found)


def redeliver_one(pk: int) -> EventDelivery:
    """The same for one. Raises `DeliveryNotFound`, and `DeliveryRefused` if it is pending."""
    if not redeliver([pk]):
        if not EventDelivery.objects.to_people().filter(pk=pk).exists():
            raise DeliveryNotFound(f"There is no webhook delivery {pk}.")
        raise DeliveryRefused("The delivery is pending: it will be sent.")
    return EventDelivery.objects.select_related("event").get(pk=pk)


def _locked(pk: int) -> WebhookSubscription:
    found = WebhookSubscription.objects.of_people().select_for_update().filter(pk=pk).first()
    if found is None:
        raise SubscriptionNotFound(f"There is no webhook subscription {pk}.")
    return found
