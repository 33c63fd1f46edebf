"""The outbox at work: events are delivered as signed webhooks, at least once and in the order of each row."""

from reportqueue.outbox.alerts import request_test
from reportqueue.outbox.deliverer import Deliverer, deliver_for, in_background, work
from reportqueue.outbox.pruning import count_prunable, prune
from reportqueue.outbox.subscriptions import redeliver, redeliver_one, rotate, secret, send_test
from reportqueue.outbox.troubles import OutboxTrouble
from reportqueue.outbox.watch import watch

__all__ = [
    "Deliverer",
    "OutboxTrouble",
    "count_prunable",
    "deliver_for",
    "in_background",
    "prune",
    "redeliver",
    "redeliver_one",
    "request_test",
    "rotate",
    "secret",
    "send_test",
    "watch",
    "work",
]
