"""How long a run waits for an API that does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from dagster_reportqueue.client import ApiUnreachable
from dagster_reportqueue.execution.interrupts import Interrupts

PATIENCE_SECONDS = 300.0
"""Before a run gives up its start or its finished report."""
GRACE_SECONDS = 5.0
"""The same for a run that was interrupted from outside: whoever did it will soon kill it."""
T = TypeVar("T")


def patiently(call: Callable[[], T], interrupts: Interrupts, patience: float | None = None) -> T:
    """Repeat a call while the API does not answer, for about `patience` seconds; less if the run is interrupted."""
    begun = time.monotonic()
    pause = 0.5
    while True:
        try:
            return call()
        except ApiUnreachable:
            again = time.monotonic() + pause
            while time.monotonic() < again:
                until = begun + (PATIENCE_SECONDS if patience is None else patience)
                if interrupts.received_at is not None:
                    until = min(until, max(begun, interrupts.received_at) + GRACE_SECONDS)
                if again > until:
                    raise
                time.sleep(0.05)
            pause = min(2 * pause, 10.0)
