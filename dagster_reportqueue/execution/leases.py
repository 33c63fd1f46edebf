"""Renews the leases of a run's rows, and stops work that was cancelled or whose row the run no longer owns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Self

from dagster_reportqueue import counters
from dagster_reportqueue.client import ApiError, ApiRefused, ApiUnreachable, Conflict, ReportQueueClient, Started

HEARTBEATS = 3
"""Heartbeats sent during one lease."""
STOP_AT = 0.75
"""The share of a lease without a heartbeat after which the work is stopped. The work can clean up in the rest, while
no other run can own the row."""
REMIND_SECONDS = 1.0
"""How often the interrupt is repeated until the work has stopped."""
NOT_LOST = {"succeeded", "cancelled", "skipped"}
"""Statuses of rows that have ended as their run or a person wanted. Another status says that the lease had ended: the
row waits for another run, or has one, or has failed since it had no attempt left."""


class Stop(StrEnum):
    """Why the work is to stop."""

    CANCEL = "cancel"
    """The report was cancelled in the queue."""
    UNREACHABLE = "unreachable"
    """No heartbeat reached the queue: another run may soon own the row."""
    LOST = "lost"
    """The queue answered that this run no longer owns the row."""


class HeldLease:
    """The lease of a started row: whether the work should stop, and the progress that it shows."""

    def __init__(self, started: Started, renewed: float) -> None:
        """`renewed` is when (`time.monotonic()`) the last renewal was sent; the lease runs from then or later."""
        self.started = started
        self.renewed = renewed
        self.stop: Stop | None = None
        self.progress: str | None = None
        self.shown: str | None = None
        self.ending = False
        """Whether the run has begun to tell the queue how the report ended: a refused renewal may come of that."""


class LeaseKeeper:
    """Keeps leases with two threads: one sends heartbeats, one watches the clock, as a call may hang past the lease."""

    def __init__(
        self, client: ReportQueueClient, lease_seconds: int, *, run_id: str, interrupt: Callable[..., None]
    ) -> None:
        """`interrupt(lease, again=True)` is called to stop the work, and repeated if its lease is about to end.

        `interrupt(lease, again=False)` is called every second until the work stops, because a signal can be missed.
        """
        self._lease_seconds = lease_seconds
        self._run_id = run_id
        # A short timeout leaves time for a second try within the lease. Retries in the client would be invisible here.
        self._client = client.clone(retries=0, read_timeout=max(1.0, lease_seconds / 6))
        self._interrupt = interrupt
        self._leases: dict[int, HeldLease] = {}
        self._waiting: Mapping[int, int] = {}
        self._waiting_renewed = time.monotonic()  # they were claimed before that, for at least as long
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"reportqueue-{name}", daemon=True)
            for name, target in (("heartbeat", self._beat), ("lease-watch", self._watch))
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=1)  # do not wait for a call that hangs: its answer no longer matters

    def add(self, started: Started, *, sent: float) -> HeldLease:
        """Renew the lease of this row, too; `sent` is when its start was requested."""
        lease = HeldLease(started, sent)
        with self._lock:
            self._leases[started.item.queue_id] = lease
        for thread in self._threads:
            if thread.ident is None:
                thread.start()
        return lease

    def drop(self, lease: HeldLease) -> None:
        """Renew this lease no more."""
        with self._lock:
            self._leases.pop(lease.started.item.queue_id, None)

    def set_waiting(self, generations: Mapping[int, int]) -> None:
        """Keep these rows dispatched to this run until it starts them; replaces the rows given before.

        Their lease is as short as that of started rows. If the run is killed, they are soon launched again.
        """
        with self._lock:
            self._waiting = generations

    def _alive(self) -> list[HeldLease]:
        with self._lock:
            return list(self._leases.values())

    def _beat(self) -> None:
        pause = 0.0
        try:
            while not self._done.wait(pause):
                mine = [lease for lease in self._alive() if lease.stop is not Stop.LOST]
                oldest = [lease.renewed for lease in mine]
                if self._waiting:
                    oldest.append(self._waiting_renewed)
                now = time.monotonic()
                pause = min(oldest, default=now) + self._lease_seconds / HEARTBEATS - now
                if pause <= 0:
                    pause = 0.0 if self._renew(mine) else min(1.0, self._lease_seconds / 12)
                    counters.save()
        finally:
            self._client.close()

    def _renew(self, mine: list[HeldLease]) -> bool:
        """Renew all leases; return False if some should be tried again soon."""
        sent, renewed = time.monotonic(), True
        with self._lock:
            waiting = self._waiting
        news = {lease: lease.progress for lease in mine if lease.progress != lease.shown}
        try:
            if mine:
                renewed = self._renew_started(mine, news, sent)
            if waiting:
                # A row that no longer waits for this run is refused. Its start will be refused, too.
                answers = self._client.renew_dispatch_many(
                    waiting, run_id=self._run_id, lease_seconds=self._lease_seconds
                )
                if any(isinstance(answer, ApiUnreachable) for answer in answers.values()):
                    return False
                with self._lock:
                    self._waiting_renewed = max(sent, self._waiting_renewed)
        except ApiRefused:
            for lease, text in news.items():
                lease.shown = text  # the progress may be the reason: do not send it again
            return False
        except ApiError:
            return False
        return renewed

    def _renew_started(self, mine: list[HeldLease], news: Mapping[HeldLease, str | None], sent: float) -> bool:
        answers = self._client.heartbeat_many(
            {lease.started.item.queue_id: lease.started.lease_token for lease in mine},
            progress={lease.started.item.queue_id: text for lease, text in news.items() if text is not None},
            lease_seconds=self._lease_seconds,
        )
        every = True
        for lease in mine:
            answer = answers[lease.started.item.queue_id]
            if isinstance(answer, ApiError):
                counters.count("lease_renewals_total", answer=_named(answer, lease))
                if isinstance(answer, ApiRefused) and answer.moved_on:
                    self._halt(lease, Stop.LOST)
                else:
                    every = False  # another transaction has locked the row: try again soon
                continue
            counters.count("lease_renewals_total", answer="renewed")
            lease.renewed, lease.shown = sent, news.get(lease, lease.shown)
            if answer and lease.stop is None:
                self._halt(lease, Stop.CANCEL)
        return every

    def _watch(self) -> None:
        pause = 0.0
        while not self._done.wait(pause):
            pause = min(REMIND_SECONDS, self._lease_seconds / 8)
            for lease in self._alive():
                left = lease.renewed + self._lease_seconds * STOP_AT - time.monotonic()
                if left <= 0:
                    self._halt(lease, Stop.UNREACHABLE)
                    left = self._lease_seconds / 12
                elif lease.stop is not None:
                    self._interrupt(lease, again=False)
                pause = min(pause, left)

    def _halt(self, lease: HeldLease, why: Stop) -> None:
        if lease.stop is None or why is Stop.LOST:
            lease.stop = why
        self._interrupt(lease, again=True)


def _named(answer: ApiError, lease: HeldLease) -> str:
    """What the counter calls an answer that renewed nothing."""
    if isinstance(answer, Conflict) and not lease.ending and answer.current_status not in NOT_LOST:
        return "lost"
    return "refused" if isinstance(answer, ApiRefused) else "later"
