"""What others do in the database of the queue: they lock a row, write a column by hand, take all connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

GENERATION, LAUNCH_FAILURES = 2**31 - 1, 2**15 - 1
"""As much as the columns hold."""
GRAB_SECONDS = 0.02


@contextmanager
def lock(url: str, row: int) -> Iterator[None]:
    """Hold the row's lock in a transaction that stays open."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1 FROM reportqueue_reportqueue WHERE id = %s FOR UPDATE", [row])
        yield
        connection.rollback()


def exhaust_generation(url: str, row: int) -> None:
    """A queued row, due from now on, whose next claim would be one more than its column holds."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE reportqueue_reportqueue SET generation = %s, available_at = now() WHERE id = %s", [GENERATION, row]
        )


def exhaust_launch_failures(url: str, row: int) -> None:
    """A queued row becomes one of a consumer that is gone, whose launches have failed as often as its column holds."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE reportqueue_reportqueue SET status = 'dispatched', generation = 1, claim_id = gen_random_uuid(),"
            " claimed_by = 'stranger', claimed_at = now(), dispatched_at = now(), launch_failures = %s,"
            " available_at = now(), lease_expires_at = now() + interval '1 s' WHERE id = %s",
            [LAUNCH_FAILURES, row],
        )


class Hog(threading.Thread):
    """A context: takes every connection that the server gives, also those that become free, and ends the web app's.

    It connects as the web app does, so nothing is reserved against it that the web app could still have.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="hog", daemon=True)
        self.full = threading.Event()
        """The server has refused a connection."""
        self._url = url
        self._held: list[psycopg.Connection] = []
        self._finished = threading.Event()

    def __enter__(self) -> Hog:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self.join(10)
        for connection in self._held:
            connection.close()

    def run(self) -> None:
        """Take, until it is over."""
        while not self._finished.wait(GRAB_SECONDS):
            try:
                while not self._finished.is_set():
                    self._held.append(psycopg.connect(self._url, autocommit=True, connect_timeout=5))
            except psycopg.OperationalError:
                self.full.set()
            if self._held:
                self._end_others()

    def _end_others(self) -> None:
        """A web app keeps connections; those that it had to give back are not to be had again."""
        mine = [connection.info.backend_pid for connection in self._held]
        self._held[0].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND NOT pid = ANY(%s)",
            [mine],
        )
