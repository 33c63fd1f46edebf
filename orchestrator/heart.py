"""A run's heart: renews the row's lease, and stops the work when it is no longer wanted or no longer the run's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Self

from orchestrator.client import ApiError, ApiRefused, ReportQueueClient, Started

BEATS = 3
"""Beats in a lease."""
STOP_AT = 0.75
"""The share of a lease without a beat after which the work stops: the rest is for it to unwind in, while no other
run can have the row."""
REMIND_SECONDS = 1.0
"""How often the work is interrupted again until it has noticed."""


class Stop(StrEnum):
    """Why the work is to stop."""

    CANCEL = "cancel"
    """Somebody wants the report no more."""
    SILENT = "silent"
    """No beat got through: the row may soon be another run's."""
    LOST = "lost"
    """The queue said that the row is not this run's any more."""


class Heart:
    """Two threads: one beats, and one watches the time, as a call may hang for longer than the lease lasts."""

    def __init__(
        self,
        client: ReportQueueClient,
        started: Started,
        lease_seconds: int,
        *,
        sent: float,
        interrupt: Callable[..., None],
    ) -> None:
        """`sent` is when (`time.monotonic()`) the start was asked for: the lease holds from then on, if not longer.

        `interrupt(again=True)` is called when the work is to stop, and repeated while it does not although its lease
        ends; `interrupt(again=False)` every second until then: it was perhaps not heard.
        """
        self.stop: Stop | None = None
        self.progress: str | None = None
        self._started = started
        self._lease = lease_seconds
        # Short, for a second try within the lease; no retries inside, as the watch would not know of them.
        self._client = client.clone(retries=0, read_timeout=max(1.0, lease_seconds / 6))
        self._renewed = sent
        self._shown: str | None = None
        self._interrupt = interrupt
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"reportqueue-{name}", daemon=True)
            for name, target in (("beat", self._beat), ("watch", self._watch))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(timeout=1)  # a call that hangs is left to itself: its answer changes nothing any more

    def _beat(self) -> None:
        try:
            pause = self._renewed + self._lease / BEATS - time.monotonic()
            while self.stop is not Stop.LOST and not self._done.wait(max(0.0, pause)):
                if self._renew():
                    pause = self._renewed + self._lease / BEATS - time.monotonic()
                else:
                    pause = min(1.0, self._lease / 12)
        finally:
            self._client.close()

    def _renew(self) -> bool:
        sent, progress = time.monotonic(), self.progress
        try:
            cancel = self._client.heartbeat(
                self._started.item.queue_id,
                lease_token=self._started.lease_token,
                lease_seconds=self._lease,
                progress=progress if progress != self._shown else None,
            )
        except ApiRefused as refused:
            if refused.moved_on:
                self._halt(Stop.LOST)
            self._shown = progress  # if that was the reason, it is not sent again
            return False
        except ApiError:
            return False
        self._renewed, self._shown = sent, progress
        if cancel and self.stop is None:
            self._halt(Stop.CANCEL)
        return True

    def _watch(self) -> None:
        left = self._left()
        while not self._done.wait(min(left, REMIND_SECONDS)):
            left = self._left()
            if left <= 0:
                self._halt(Stop.SILENT)
                left = self._lease / 12
            elif self.stop is not None:
                self._interrupt(again=False)

    def _left(self) -> float:
        return self._renewed + self._lease * STOP_AT - time.monotonic()

    def _halt(self, why: Stop) -> None:
        if self.stop is None or why is Stop.LOST:
            self.stop = why
        self._interrupt(again=True)
