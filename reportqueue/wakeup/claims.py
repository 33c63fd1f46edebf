"""How claims that wait learn of new rows: one connection of the process listens for all of them, and watches the clock.

It tells them of what is committed, and of what time alone makes due: a retry's delay that is over, a firing, a lease
that ends. Nobody relies on it: a waiting claim also looks again on its own, every `HEARING_POLL_SECONDS` while the
listener is known to hear, and every `WAIT_POLL_SECONDS` otherwise. So a listener that is lost, or that a connection
pool does not let through, costs time and no row.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import connection

from reportqueue.clock import ClockTimestamp
from reportqueue.conf import conf
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.notices import ROWS, SCHEDULES

logger = logging.getLogger("reportqueue")
NAME = "reportqueue-listener"
"""Of the thread, and of its connection in `pg_stat_activity`."""
RECONNECT_SECONDS = 1.0
LEAVE_SECONDS = 0.2
"""How long it goes on listening when nobody waits any more."""
HEARING_POLL_SECONDS = 5.0
"""Between two looks of a waiting claim that nobody told of anything, if somebody would have."""
ECHO_SECONDS = 1.0
"""How long it waits for its own call, sent through another connection, before it takes itself for deaf."""
DEAF_SECONDS = 30.0
"""After which it calls again."""
LOOK_PAUSE_SECONDS = 0.02
"""The least time between two looks of a waiting claim: with a thousand rows a second, one look serves many."""


class Listener:
    """Hears of rows for all claims of this process that wait; there while one of them does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiters = 0
        self._heard = 0
        self._hears_until = 0.0
        self._thread: threading.Thread | None = None

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """Have it listen meanwhile; False if `MAX_WAITERS` claims wait already, and this one must not."""
        with self._changed:
            admitted = self._waiters < conf().max_waiters
            self._waiters += admitted
            if admitted and (self._thread is None or not self._thread.is_alive()):
                parameters = connection.get_connection_params()
                self._thread = threading.Thread(target=self._listen, args=[parameters], name=NAME, daemon=True)
                self._thread.start()
        try:
            yield admitted
        finally:
            with self._changed:
                self._waiters -= admitted

    def heard(self) -> int:
        """How often it has heard of something; to be read before a look, and given to `wait` after it."""
        with self._changed:
            return self._heard

    def wait(self, heard: int, seconds: float) -> None:
        """Until it has heard of something since `heard` was read, so many seconds are over, or it is time to look."""
        with self._changed:
            self._changed.wait_for(lambda: self._heard != heard, min(seconds, _poll_seconds(self.hears)))

    @property
    def hears(self) -> bool:
        """Whether it is known to hear what is committed; if that ends, those who wait are told."""
        return time.monotonic() < self._hears_until

    def _listen(self, parameters: dict[str, Any]) -> None:
        while self._wanted():
            try:
                self._listen_once(parameters)
            except psycopg.Error as error:
                self._declare(False)
                logger.warning("Listening for rows failed, claims poll meanwhile: %s", str(error).strip()[:200])
                time.sleep(RECONNECT_SECONDS)

    def _listen_once(self, parameters: dict[str, Any]) -> None:
        with psycopg.connect(**{**parameters, "application_name": NAME}, autocommit=True) as listening:
            listening.execute(f"LISTEN {ROWS}")
            listening.execute(f"LISTEN {SCHEDULES}")
            alarm = _Alarm(listening)
            self._tell()  # what was committed before it listened, or due before the alarm began
            hears, called = False, -DEAF_SECONDS
            while self._wanted():
                if not hears and time.monotonic() >= called + DEAF_SECONDS:
                    called = time.monotonic()
                    hears = self._calls(listening, parameters)
                # Its answer is the proof that the connection still stands.
                alarm.set(_poll_seconds(hears))
                self._declare(hears)
                if self._is_told(listening, alarm) or alarm.rings():
                    self._tell()
                    time.sleep(LOOK_PAUSE_SECONDS)

    def _calls(self, listening: psycopg.Connection[Any], parameters: dict[str, Any]) -> bool:
        """Whether it hears what another connection says: not so if a pool takes its own away between transactions."""
        channel = f"reportqueue_echo_{uuid.uuid4().hex}"
        try:
            listening.execute(f"LISTEN {channel}")
            with psycopg.connect(**{**parameters, "application_name": f"{NAME}-echo"}, autocommit=True) as calling:
                calling.execute(f"NOTIFY {channel}")
            until = time.monotonic() + ECHO_SECONDS
            while (left := until - time.monotonic()) > 0:
                for notice in listening.notifies(timeout=left, stop_after=1):
                    if notice.channel == channel:
                        until = 0.0
                    else:
                        self._tell()
            listening.execute(f"UNLISTEN {channel}")
        except psycopg.Error as error:
            if listening.closed:
                raise
            logger.warning("Listening for rows could not be tried, claims poll: %s", str(error).strip()[:200])
            return False
        if until:
            logger.warning("Listening for rows hears nothing, as through a connection pool: claims poll.")
        return not until

    def _declare(self, hears: bool) -> None:
        """Say how often claims must look for themselves, from now on."""
        with self._changed:
            heard_before = self.hears
            self._hears_until = time.monotonic() + 2 * HEARING_POLL_SECONDS if hears else 0.0
        if heard_before and not hears:
            self._tell()

    def _is_told(self, listening: psycopg.Connection[Any], alarm: _Alarm) -> bool:
        """Whether something is heard before the alarm's time, or the end of this thread."""
        while (left := alarm.seconds_left()) > 0 and self._wanted():
            if list(listening.notifies(timeout=min(left, LEAVE_SECONDS), stop_after=1)):
                return True
        return False

    def _tell(self) -> None:
        with self._changed:
            self._heard += 1
            self._changed.notify_all()

    def _wanted(self) -> bool:
        """Whether anybody waits; if not, this thread is about to end, and the next waiter starts another."""
        with self._changed:
            own = self._thread is threading.current_thread()
            if own and not self._waiters:
                self._thread = None
            return own and self._waiters > 0


class _Alarm:
    """The next instant at which time alone makes something due, as seen through a connection."""

    def __init__(self, connected: psycopg.Connection[Any]) -> None:
        """Of the instants from now on, by the database's clock."""
        self._connected = connected
        (self._after,) = self._ask("SELECT clock_timestamp()")
        self._due: datetime | None = None
        self._until = 0.0

    def set(self, ahead: float) -> None:
        """Look for the next instant since the last that rang; so many seconds ahead, since claims look then."""
        found = [
            self._first(ReportQueue.objects.coming(self._after, timedelta(seconds=ahead)), "available_at"),
            self._first(ReportQueue.objects.ending(self._after, timedelta(seconds=ahead)), "lease_expires_at"),
            # Where claims leave the schedules alone, their firings come as rows.
            self._first(ReportSchedule.objects.coming(self._after, timedelta(seconds=ahead)), "next_run_at")
            if conf().expand_on_claim
            else None,
        ]
        self._due, now = min((one for one in found if one is not None), default=(None, None))
        if self._due is not None and now is not None:
            ahead = (self._due - now).total_seconds()
            # Whoever looks once it has rung finds all that is due by now, be it late.
            self._due = max(self._due, now)
        self._until = time.monotonic() + ahead

    def seconds_left(self) -> float:
        """Until the instant, or until it is to be set again."""
        return self._until - time.monotonic()

    def rings(self) -> bool:
        """Whether the instant has come; it then does not ring again."""
        if self._due is None or self.seconds_left() > 0:
            return False
        self._after = self._due
        return True

    def _first(self, coming: Any, field: str) -> tuple[datetime, datetime] | None:
        """The first instant, and the database's time."""
        first = coming.annotate(now=ClockTimestamp()).values_list(field, "now")[:1]
        # Asked through this connection and not Django's: that one may come from a pool, and would be kept from others.
        found: tuple[datetime, datetime] | None = self._ask(*first.query.sql_with_params())
        return found

    def _ask(self, statement: str, values: Any = None) -> Any:
        return self._connected.execute(statement, values).fetchone()


def _poll_seconds(hears: bool) -> float:
    """How often a claim that waits looks for itself; as long as the alarm looks ahead."""
    return max(HEARING_POLL_SECONDS, conf().wait_poll_seconds) if hears else conf().wait_poll_seconds


listener = Listener()


def wait(until: float, heard: int) -> bool:
    """Wait until it is worth looking again; False when `until` (of `time.monotonic()`) has come.

    `heard` is `listener.heard()` from before the last look. The database connection is given back first: a waiter costs
    a thread, no connection, transaction or lock.
    """
    left = until - time.monotonic()
    if left <= 0:
        return False
    connection.close()
    time.sleep(min(left, LOOK_PAUSE_SECONDS))
    listener.wait(heard, max(0.0, left - LOOK_PAUSE_SECONDS))
    return True
