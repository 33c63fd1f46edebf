"""How a scheduler that waits learns of changed schedules: the database tells it."""

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
    """A wait that a changed schedule or a signal ends; a context, since it takes over the process's wake-up pipe.

    While one waits, the connection of this thread listens and is idle: no transaction, no lock. A connection that was
    lost listens again once there is a new one.
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
        """Begin to listen; before the look at the schedules, or a change between the two would be missed."""
        connection.ensure_connection()
        if self._listening is not connection.connection:
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {SCHEDULES}")
            self._listening = connection.connection

    def wait(self, seconds: float) -> None:
        """Until a schedule changes, a signal arrives or the time is over; at once if one changed since `listen`."""
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
    """Take what has been told since; True as well for a lost connection, which the next look will notice."""
    try:
        return bool(list(listening.notifies(timeout=0)))
    except psycopg.OperationalError:
        return True
