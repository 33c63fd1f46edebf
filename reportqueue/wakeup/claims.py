"""Notify waiting claims of new rows: one connection of the process listens for all of them, and watches the clock.

The streams of live pages (`wakeup.pages`) are notified by the same connection.

Claims are notified when a row is committed, and when time alone makes a row due: a retry's delay is over, a schedule
fires, a lease ends. No claim depends on that: a waiting claim also polls, every `HEARING_POLL_SECONDS` while
notifications are known to arrive, and every `WAIT_POLL_SECONDS` otherwise. So a lost listener, or a connection pool
that delivers no notifications, costs time and no row.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import psycopg

from reportqueue import database
from reportqueue.clock import ClockTimestamp
from reportqueue.conf import conf
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.notices import ROWS, SCHEDULES
from reportqueue.wakeup.listening import Address, Pooled

logger = logging.getLogger("reportqueue")
NAME = "reportqueue-listener"
"""The name of the thread, and of its connection in `pg_stat_activity`."""
ECHO = "reportqueue_echo"
"""The channel of the self-test. It has always the same name: were it left on a connection, it would be left once."""
RECONNECT_SECONDS = 1.0
LEAVE_SECONDS = 0.2
"""How long it goes on listening when nobody waits any more."""
HEARING_POLL_SECONDS = 15.0
"""Poll interval of a waiting claim while notifications arrive: a fallback."""
ECHO_SECONDS = 1.0
"""Timeout of the self-test: the listener sends itself a NOTIFY through another connection and must receive it."""
DEAF_SECONDS = 30.0
"""How long after a failed self-test the next one follows; and after a connection pool was found, the next look."""
LOOK_PAUSE_SECONDS = 0.02
"""The least time between two polls of a waiting claim: with a thousand rows a second, one poll takes many."""


class Waiter(Enum):
    """Who waits for notifications. Each waits in a thread of the web server."""

    CLAIM = "claim"
    STREAM = "stream"


class Listener:
    """Receives notifications for all waiting claims and streams of this process. Its thread runs while one waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiters: Counter[Waiter] = Counter()
        self._heard = 0
        self._hears_until = 0.0
        self._thread: threading.Thread | None = None
        self._warned_of_pool = False
        self._stopped = False

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """Listen meanwhile. Yields False if the claim must not wait: `MAX_WAITERS` do already, or the process ends."""
        admitted = self.admit(Waiter.CLAIM, conf().max_waiters)
        try:
            yield admitted
        finally:
            if admitted:
                self.leave(Waiter.CLAIM)

    def admit(self, waiter: Waiter, most: int) -> bool:
        """Listen for one more waiter until it leaves. False if `most` of its kind wait already, or the process ends."""
        with self._changed:
            if self._waiters[waiter] >= most or self._stopped:
                return False
            if self._thread is None or not self._thread.is_alive():
                addresses = Address.for_listening(), Address.of()
                self._thread = threading.Thread(target=self._listen, args=addresses, name=NAME, daemon=True)
                self._thread.start()
            self._waiters[waiter] += 1  # at the end: whoever gets an error does not leave
            return True

    def leave(self, waiter: Waiter) -> None:
        """End what `admit` has begun."""
        with self._changed:
            self._waiters[waiter] -= 1

    def heard(self) -> int:
        """The number of notifications so far. Read it before polling, and give it to `wait` afterwards."""
        with self._changed:
            return self._heard

    def wait(self, heard: int, seconds: float) -> None:
        """Wait for a notification since `heard` was read; at most so many seconds, and until the next poll is due."""
        with self._changed:
            self._changed.wait_for(lambda: self._heard != heard, min(seconds, _poll_seconds(self.hears)))

    def wait_for_notice(self, heard: int, seconds: float) -> None:
        """Wait for a notification since `heard` was read; at most so many seconds, and not until the next poll."""
        with self._changed:
            self._changed.wait_for(lambda: self._heard != heard, seconds)

    def rest(self, seconds: float) -> None:
        """Wait for so long, whatever is notified; but not longer than the process goes on."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, seconds)

    def stop(self) -> None:
        """Let nobody wait any more: the process is about to end."""
        self._stopped = True
        self._notify()

    @property
    def stopped(self) -> bool:
        """Whether the process is about to end."""
        return self._stopped

    @property
    def hears(self) -> bool:
        """Whether notifications are known to arrive. When that ends, the waiting claims are notified."""
        return time.monotonic() < self._hears_until

    def _listen(self, here: Address, queue: Address) -> None:
        """Listen `here` for what is committed in the queue's database, while somebody waits."""
        while self._wanted():
            try:
                self._listen_once(here, queue)
            except Pooled as error:
                self._declare(False)
                if not self._warned_of_pool:
                    self._warned_of_pool = True
                    logger.warning("%s Until then waiting claims poll.", error)
                self._pause(DEAF_SECONDS)
            except psycopg.Error as error:
                self._declare(False)
                logger.warning("Listening for rows failed, claims poll meanwhile: %s", str(error).strip()[:200])
                time.sleep(RECONNECT_SECONDS)

    def _listen_once(self, here: Address, queue: Address) -> None:
        with here.connect_directly(NAME) as listening:
            listening.execute(f"LISTEN {ROWS}")
            listening.execute(f"LISTEN {SCHEDULES}")
            alarm = _Alarm(listening)
            self._notify()  # of rows that were committed before it listened, or due before the alarm was set
            hears, called = False, -DEAF_SECONDS
            while self._wanted():
                if not hears and time.monotonic() >= called + DEAF_SECONDS:
                    called = time.monotonic()
                    hears = self._receives_own_notice(listening, queue)
                # This queries through the connection, and so proves that it still works.
                alarm.set(_poll_seconds(hears))
                self._declare(hears)
                if self._is_notified(listening, alarm) or alarm.rings():
                    self._notify()
                    time.sleep(LOOK_PAUSE_SECONDS)

    def _receives_own_notice(self, listening: psycopg.Connection[Any], queue: Address) -> bool:
        """The self-test: whether a NOTIFY arrives that is sent as those of rows are."""
        word = uuid.uuid4().hex
        try:
            listening.execute(f"LISTEN {ECHO}")
            with queue.connect(f"{NAME}-echo") as calling:
                calling.execute("SELECT pg_notify(%s, %s)", [ECHO, word])
            until = time.monotonic() + ECHO_SECONDS
            while (left := until - time.monotonic()) > 0:
                for notice in listening.notifies(timeout=left, stop_after=1):
                    if (notice.channel, notice.payload) == (ECHO, word):
                        until = 0.0
                    elif notice.channel != ECHO:  # the self-test of another process
                        self._notify()
            listening.execute(f"UNLISTEN {ECHO}")
        except psycopg.Error as error:
            if listening.closed:
                raise
            logger.warning("The self-test of notifications failed, claims poll: %s", str(error).strip()[:200])
            return False
        if until:
            logger.warning("Notifications of rows do not arrive: claims poll. Is LISTEN_DATABASE the queue's own?")
        return not until

    def _declare(self, hears: bool) -> None:
        """Set whether notifications arrive, which decides how often claims poll from now on."""
        with self._changed:
            heard_before = self.hears
            self._hears_until = time.monotonic() + 2 * HEARING_POLL_SECONDS if hears else 0.0
        if heard_before and not hears:
            self._notify()

    def _is_notified(self, listening: psycopg.Connection[Any], alarm: _Alarm) -> bool:
        """Whether a notification arrives before the alarm's time, and while this thread is wanted."""
        while (left := alarm.seconds_left()) > 0 and self._wanted():
            if list(listening.notifies(timeout=min(left, LEAVE_SECONDS), stop_after=1)):
                return True
        return False

    def _notify(self) -> None:
        with self._changed:
            self._heard += 1
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        """Do nothing for so long, or until nobody waits any more."""
        until = time.monotonic() + seconds
        while self._wanted() and time.monotonic() < until:
            time.sleep(LEAVE_SECONDS)

    def _wanted(self) -> bool:
        """Whether somebody waits. If not, this thread is about to end, and the next waiter starts another."""
        with self._changed:
            own, waiters = self._thread is threading.current_thread(), self._waiters.total()
            if own and not waiters:
                self._thread = None
                self._hears_until = 0.0  # the next thread has to find out for itself
            return own and waiters > 0


class _Alarm:
    """The next instant at which time alone makes a row due; it queries through the listener's connection."""

    def __init__(self, connected: psycopg.Connection[Any]) -> None:
        """Watch the instants from now on, by the database's clock."""
        self._connected = connected
        (self._after,) = self._ask("SELECT clock_timestamp()")
        self._due: datetime | None = None
        self._until = 0.0

    def set(self, ahead: float) -> None:
        """Find the first instant after the last one that rang, at most `ahead` seconds from now: claims poll then."""
        found = [
            self._first(ReportQueue.objects.coming(self._after, timedelta(seconds=ahead)), "available_at"),
            self._first(ReportQueue.objects.ending(self._after, timedelta(seconds=ahead)), "lease_expires_at"),
            # If claims do not expand schedules, the scheduler's rows come with a notification.
            self._first(ReportSchedule.objects.coming(self._after, timedelta(seconds=ahead)), "next_run_at")
            if conf().expand_on_claim
            else None,
        ]
        self._due, now = min((one for one in found if one is not None), default=(None, None))
        if self._due is not None and now is not None:
            ahead = (self._due - now).total_seconds()
            # A poll after the alarm finds everything that is due by now, late rows included.
            self._due = max(self._due, now)
        self._until = time.monotonic() + ahead

    def seconds_left(self) -> float:
        """Seconds until the instant, or until the alarm has to be set again."""
        return self._until - time.monotonic()

    def rings(self) -> bool:
        """Whether the instant has come. An instant rings once."""
        if self._due is None or self.seconds_left() > 0:
            return False
        self._after = self._due
        return True

    def _first(self, coming: Any, field: str) -> tuple[datetime, datetime] | None:
        """The first instant of a query, and the database's time."""
        first = coming.annotate(now=ClockTimestamp()).values_list(field, "now")[:1]
        # Through this connection, not Django's: that one may come from a pool, and would be missing there.
        found: tuple[datetime, datetime] | None = self._ask(*database.statement_of(first))
        return found

    def _ask(self, statement: str, values: Any = None) -> Any:
        return self._connected.execute(statement, values).fetchone()


def _poll_seconds(hears: bool) -> float:
    """A waiting claim's poll interval, and how far the alarm looks ahead."""
    return max(HEARING_POLL_SECONDS, conf().wait_poll_seconds) if hears else conf().wait_poll_seconds


listener = Listener()


def wait(until: float, heard: int, *, often: bool = False) -> bool:
    """Wait until it is time to poll again; False when `until` (of `time.monotonic()`) has come, or the process ends.

    With `often` that is after `WAIT_POLL_SECONDS`, whether notifications arrive or not: none tells when a limit allows
    more rows.

    `heard` is `listener.heard()` from before the last poll. All database connections are given back first: a
    waiting claim costs a thread, but no connection, transaction or lock.
    """
    left = until - time.monotonic()
    if left > 0 and often:
        left = min(left, conf().wait_poll_seconds)
    if left <= 0 or listener.stopped:
        return False
    database.close()
    time.sleep(min(left, LOOK_PAUSE_SECONDS))
    listener.wait(heard, max(0.0, left - LOOK_PAUSE_SECONDS))
    return True
