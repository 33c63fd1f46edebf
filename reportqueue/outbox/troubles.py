"""What is wrong with webhooks and alerts, for the overview and the probes: what people have to see to."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.db.models import QuerySet

from reportqueue.models import AlertRule, EventDelivery, WebhookSubscription


class OutboxTrouble(StrEnum):
    """What can be wrong; the values are names of counts."""

    DISABLED = "webhooks_disabled"
    """Subscriptions that their failures have disabled."""
    GIVEN_UP = "deliveries_given_up"
    """Deliveries that were given up lately."""
    ALERTS_FAIL = "alerts_failing"
    """Alert rules whose messages cannot be sent."""


def queries() -> dict[str, QuerySet[Any]]:
    """The rows of each trouble, for one statement that counts them up to a limit."""
    return {
        OutboxTrouble.DISABLED: WebhookSubscription.objects.disabled_by_failures(),
        OutboxTrouble.GIVEN_UP: EventDelivery.objects.given_up_lately(),
        OutboxTrouble.ALERTS_FAIL: AlertRule.objects.failing(),
    }


def found(counts: dict[str, int]) -> dict[OutboxTrouble, int]:
    """Take the counts of `queries` out of others; those that are not 0."""
    mine = {one: counts.pop(one) for one in OutboxTrouble}
    return {one: count for one, count in mine.items() if count}
