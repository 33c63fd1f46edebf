"""A deliverer in a process of its own, which kills itself at a point: `python -m tests.outbox.mortal POINT CALL`.

Points: `taken` (after the lock, before it sends), `sent` (after a receiver has answered, before that is recorded),
`recording` (before the commit of what came of it), `recorded` (after it), and `never`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.outbox.settings"
django.setup()

from reportqueue import outbox  # noqa: E402
from reportqueue.outbox import deliverer, deliveries, sending  # noqa: E402

point, left = sys.argv[1], int(sys.argv[2])
LEASE_SECONDS = 1.5


def die(here: str) -> None:
    global left
    if here == point:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


take, post, record, note = deliveries.take, sending.post, deliveries.record, deliveries._note


def dying_take(*args: Any) -> Any:
    found = take(*args)
    if found:
        die("taken")
    return found


def dying_post(*args: Any) -> Any:
    answer = post(*args)
    die("sent")
    return answer


def dying_record(*args: Any) -> None:
    record(*args)
    die("recorded")


def dying_note(*args: Any) -> None:
    die("recording")
    note(*args)


deliveries.LEASE_SECONDS = LEASE_SECONDS
deliverer.ABANDON_SECONDS = 0.4
deliveries.BACKOFF_SECONDS = deliveries.BACKOFF_MAX_SECONDS = 0.05
deliveries.PROBE_MAX_SECONDS = 0.05
deliverer.IDLE_SECONDS = deliverer.UNSUBSCRIBED_SECONDS = 0.05
deliveries.take, sending.post, deliveries.record, deliveries._note = dying_take, dying_post, dying_record, dying_note
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
outbox.work(stop)
