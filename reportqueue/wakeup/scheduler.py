"""Notify the waiting scheduler of changed schedules, by LISTEN."""

from __future__ import annotations

import os
import select
import signal
from types import TracebackType
from typing import Any, Self

import psycopg
from django.db import connection

from reportqueue.notices import SCHEDULES


class ScheduleWatch:
    """A wait that ends when a schedule changes or a signal arrives. A context: it uses the process's wake-up pipe.

    While it waits, this thread's connection listens and is idle: it holds no transaction and no lock. After a lost
    connection, the new one listens.
    """

    def __enter__(self) -> Self:
        self._pipe, self._written = os.pipe()
        os.set_blocking(self._written, False)
        self._before = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        self._listening: object = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._pipe)
        os.close(self._written)

    def listen(self) -> None:
        """Listen. Call it before reading the schedules, or a change between the two would be missed."""
        connection.ensure_connection()
        if self._listening is not connection.connection:
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {SCHEDULES}")
            self._listening = connection.connection

    def wait(self, seconds: float) -> None:
        """Wait until a schedule changes, a signal arrives or the time is over. Changes since `listen` count."""
        listening = connection.connection
        if listening is None or listening.closed:
            select.select([self._pipe], [], [], seconds)
            return
        if _news(listening):
            return
        ready, _, _ = select.select([self._pipe, listening.fileno()], [], [], seconds)
        if self._pipe in ready:
            os.read(self._pipe, 4096)
        _news(listening)


def _news(listening: psycopg.Connection[Any]) -> bool:
    """Fetch the notifications; whether there were any. True also for a lost connection, which the next query finds."""
    try:
        return bool(list(listening.notifies(timeout=0)))
    except psycopg.OperationalError:
        return True
