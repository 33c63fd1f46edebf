"""A run's heart: renews its rows' leases, and stops work that is no longer wanted or no longer the run's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Self

from dagster_reportqueue.client import ApiError, ApiRefused, ApiUnreachable, ReportQueueClient, Started

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


class Pulse:
    """A started row: whether its work is to stop, and what it shows of itself."""

    def __init__(self, started: Started, renewed: float) -> None:
        """`renewed` is when (`time.monotonic()`) the lease was last asked for: it holds from then on, if not longer."""
        self.started = started
        self.renewed = renewed
        self.stop: Stop | None = None
        self.progress: str | None = None
        self.shown: str | None = None


class Heart:
    """Two threads: one beats, and one watches the time, as a call may hang for longer than the leases last."""

    def __init__(
        self, client: ReportQueueClient, lease_seconds: int, *, run_id: str, interrupt: Callable[..., None]
    ) -> None:
        """`interrupt(pulse, again=True)` is called when a row's work is to stop, and repeated while it does not
        although its lease ends; `interrupt(pulse, again=False)` every second until then: it was perhaps not heard.
        """
        self._lease = lease_seconds
        self._run_id = run_id
        # Short, for a second try within the lease; no retries inside, as the watch would not know of them.
        self._client = client.clone(retries=0, read_timeout=max(1.0, lease_seconds / 6))
        self._interrupt = interrupt
        self._pulses: dict[int, Pulse] = {}
        self._waiting: Mapping[int, int] = {}
        self._waiting_renewed = time.monotonic()  # they were handed out before, for at least as long
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"reportqueue-{name}", daemon=True)
            for name, target in (("beat", self._beat), ("watch", self._watch))
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=1)  # a call that hangs is left to itself: its answer changes nothing any more

    def add(self, started: Started, *, sent: float) -> Pulse:
        """Beat for this row, too, whose start was asked for at `sent`."""
        pulse = Pulse(started, sent)
        with self._lock:
            self._pulses[started.item.queue_id] = pulse
        for thread in self._threads:
            if thread.ident is None:
                thread.start()
        return pulse

    def drop(self, pulse: Pulse) -> None:
        """The row has ended, or is given up."""
        with self._lock:
            self._pulses.pop(pulse.started.item.queue_id, None)

    def keep_waiting(self, generations: Mapping[int, int]) -> None:
        """These rows and no others wait for this run to start them: keep them handed out to it meanwhile.

        Their lease is as short as that of the started ones: should the run be killed, they are soon offered again.
        """
        with self._lock:
            self._waiting = generations

    def _alive(self) -> list[Pulse]:
        with self._lock:
            return list(self._pulses.values())

    def _beat(self) -> None:
        pause = 0.0
        try:
            while not self._done.wait(pause):
                mine = [pulse for pulse in self._alive() if pulse.stop is not Stop.LOST]
                oldest = [pulse.renewed for pulse in mine]
                if self._waiting:
                    oldest.append(self._waiting_renewed)
                now = time.monotonic()
                pause = min(oldest, default=now) + self._lease / BEATS - now
                if pause <= 0:
                    pause = 0.0 if self._renew(mine) else min(1.0, self._lease / 12)
        finally:
            self._client.close()

    def _renew(self, mine: list[Pulse]) -> bool:
        """Whether every lease is renewed that can be."""
        sent, renewed = time.monotonic(), True
        with self._lock:
            waiting = self._waiting
        news = {pulse: pulse.progress for pulse in mine if pulse.progress != pulse.shown}
        try:
            if mine:
                renewed = self._renew_started(mine, news, sent)
            if waiting:
                # One that does not wait any more is refused, as its start will be.
                answers = self._client.keep_waiting_many(waiting, run_id=self._run_id, lease_seconds=self._lease)
                if any(isinstance(answer, ApiUnreachable) for answer in answers.values()):
                    return False
                with self._lock:
                    self._waiting_renewed = max(sent, self._waiting_renewed)
        except ApiRefused:
            for pulse, text in news.items():
                pulse.shown = text  # if that was the reason, it is not sent again
            return False
        except ApiError:
            return False
        return renewed

    def _renew_started(self, mine: list[Pulse], news: Mapping[Pulse, str | None], sent: float) -> bool:
        answers = self._client.heartbeat_many(
            {pulse.started.item.queue_id: pulse.started.lease_token for pulse in mine},
            progress={pulse.started.item.queue_id: text for pulse, text in news.items() if text is not None},
            lease_seconds=self._lease,
        )
        every = True
        for pulse in mine:
            answer = answers[pulse.started.item.queue_id]
            if isinstance(answer, ApiError):
                if isinstance(answer, ApiRefused) and answer.moved_on:
                    self._halt(pulse, Stop.LOST)
                else:
                    every = False  # a row that somebody holds just now is tried again soon
                continue
            pulse.renewed, pulse.shown = sent, news.get(pulse, pulse.shown)
            if answer and pulse.stop is None:
                self._halt(pulse, Stop.CANCEL)
        return every

    def _watch(self) -> None:
        pause = 0.0
        while not self._done.wait(pause):
            pause = min(REMIND_SECONDS, self._lease / 8)
            for pulse in self._alive():
                left = pulse.renewed + self._lease * STOP_AT - time.monotonic()
                if left <= 0:
                    self._halt(pulse, Stop.SILENT)
                    left = self._lease / 12
                elif pulse.stop is not None:
                    self._interrupt(pulse, again=False)
                pause = min(pause, left)

    def _halt(self, pulse: Pulse, why: Stop) -> None:
        if pulse.stop is None or why is Stop.LOST:
            pulse.stop = why
        self._interrupt(pulse, again=True)
