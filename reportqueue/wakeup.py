"""How claims that wait learn of new rows: one connection of the process listens for all of them.

Nobody relies on it: a waiting claim also looks again after `WAIT_POLL_SECONDS`, whether it was told something or not.
So a listener that is lost, or that a connection pool does not let through, costs time and no row.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection

from reportqueue.conf import conf
from reportqueue.notices import ROWS

logger = logging.getLogger("reportqueue")
RECONNECT_SECONDS = 1.0
LOOK_PAUSE_SECONDS = 0.02
"""The least time between two looks of a waiting claim: with a thousand rows a second, one look serves many."""


class Listener:
    """Hears of rows for all claims of this process that wait; there while one of them does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiters = 0
        self._heard = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Have it listen meanwhile."""
        with self._changed:
            self._waiters += 1
            if self._thread is None:
                parameters = connection.get_connection_params()
                self._thread = threading.Thread(
                    target=self._listen, args=[parameters], name="reportqueue-listener", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._waiters -= 1

    def heard(self) -> int:
        """How often it has heard of something; to be read before a look, and given to `wait` after it."""
        with self._changed:
            return self._heard

    def wait(self, heard: int, seconds: float) -> None:
        """Until it has heard of something since `heard` was read, or so many seconds are over."""
        with self._changed:
            self._changed.wait_for(lambda: self._heard != heard, seconds)

    def _listen(self, parameters: dict[str, object]) -> None:
        while self._wanted():
            try:
                self._listen_once(parameters)
            except psycopg.Error as error:
                logger.warning("Listening for rows failed, claims poll meanwhile: %s", str(error).strip()[:200])
                time.sleep(RECONNECT_SECONDS)

    def _listen_once(self, parameters: dict[str, object]) -> None:
        with psycopg.connect(**parameters, autocommit=True) as listening:  # type: ignore[arg-type]
            listening.execute(f"LISTEN {ROWS}")
            self._tell()  # what was committed before it listened
            while self._wanted():
                if list(listening.notifies(timeout=0.2, stop_after=1)):
                    self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._heard += 1
            self._changed.notify_all()

    def _wanted(self) -> bool:
        """Whether anybody waits; if not, this thread is about to end, and the next waiter starts another."""
        with self._changed:
            if self._waiters:
                return True
            self._thread = None
            return False


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
    listener.wait(heard, min(max(0.0, left - LOOK_PAUSE_SECONDS), conf().wait_poll_seconds))
    return True
