"""How much of its time a process spends on live pages: many of them on a busy queue must not hold up other requests."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from django.core.signals import request_finished

from reportqueue.conf import conf

AHEAD_SECONDS = 10.0
"""Pages may use up the time of so many seconds at once: a few open pages never wait."""
LONGEST_SECONDS = 120.0
"""A page that has to wait asks again after this at the latest."""


class Budget:
    """`LIVE_SHARE` of a process's time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._even_at = 0.0
        """When all time that was spent is the share of the time that has passed; of the monotonic clock."""

    def spend(self, seconds: float) -> None:
        """Note that a live page took so long."""
        with self._lock:
            self._even_at = max(self._even_at, time.monotonic()) + seconds / conf().live_share

    def wait(self) -> float:
        """The seconds until the next page may be fetched, and some more so that not all come together; 0: at once."""
        with self._lock:
            over = self._even_at - time.monotonic() - AHEAD_SECONDS
        return min(LONGEST_SECONDS, over * random.uniform(1, 2)) if over > 0 else 0.0  # noqa: S311


budget = Budget()
_own = threading.local()


def spend_request() -> None:
    """Count the rest of the request that this thread answers. Time that it waits counts: PostgreSQL works then."""
    _own.began = time.monotonic()


def _finished(sender: Any, **_: Any) -> None:
    began = getattr(_own, "began", None)
    if began is not None:
        _own.began = None
        budget.spend(time.monotonic() - began)


request_finished.connect(_finished, dispatch_uid="reportqueue.live")
