"""Subscriptions and receivers for the tests of the outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reportqueue import outbox
from reportqueue.models import WebhookSubscription
from reportqueue.models.event import SUBSCRIBABLE
from reportqueue.outbox import deliveries
from tests.outbox.receiver import Receiver, receiving

Subscribe = Callable[..., WebhookSubscription]


@pytest.fixture(autouse=True)
def _own_machine(settings: Any) -> None:
    """Webhooks may go to this machine."""
    settings.REPORTQUEUE = {
        **settings.REPORTQUEUE,
        "WEBHOOK_ALLOW_HTTP": True,
        "WEBHOOK_ALLOWED_NETWORKS": ["127.0.0.0/8"],
        "WEBHOOK_TIMEOUT_SECONDS": 1,
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that listens."""
    with receiving() as made:
        yield made


@pytest.fixture
def subscribe(receiver: Receiver) -> Subscribe:
    """Adds a subscription of the receiver, to all events unless told otherwise."""

    def make(**fields: Any) -> WebhookSubscription:
        made = WebhookSubscription(**{"url": receiver.url, "event_types": list(map(str, SUBSCRIBABLE)), **fields})
        made.save()
        receiver.secrets.append(outbox.secret(made))
        return made

    return make


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed deliveries are tried again nearly at once."""
    monkeypatch.setattr(deliveries, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(deliveries, "BACKOFF_MAX_SECONDS", 0.01)
    monkeypatch.setattr(deliveries, "PROBE_MAX_SECONDS", 0.01)
