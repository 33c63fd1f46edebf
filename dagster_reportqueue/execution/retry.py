"""Repeats a call while the API does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from dagster_reportqueue.client import ApiUnreachable
from dagster_reportqueue.execution.interrupts import Interrupts

UNREACHABLE_SECONDS = 300.0
"""How long a run retries its start, or sending its finished report."""
GRACE_SECONDS = 5.0
"""The same after an interrupt from outside, as the run will probably be killed soon."""
T = TypeVar("T")


def retry_while_unreachable(call: Callable[[], T], interrupts: Interrupts, seconds: float | None = None) -> T:
    """Call until the API answers, for about `seconds` (default: `UNREACHABLE_SECONDS`); less after an interrupt."""
    begun = time.monotonic()
    pause = 0.5
    while True:
        try:
            return call()
        except ApiUnreachable:
            again = time.monotonic() + pause
            while time.monotonic() < again:
                until = begun + (UNREACHABLE_SECONDS if seconds is None else seconds)
                if interrupts.received_at is not None:
                    until = min(until, max(begun, interrupts.received_at) + GRACE_SECONDS)
                if again > until:
                    raise
                time.sleep(0.05)
            pause = min(2 * pause, 10.0)
