"""Notify the waiting scheduler of changed schedules and of bulk actions, by LISTEN."""

from __future__ import annotations

import logging
import os
import select
import signal
from types import TracebackType
from typing import Any, Self

import psycopg

from reportqueue.notices import BULK, SCHEDULES
from reportqueue.wakeup.listening import Address, Pooled

NAME = "reportqueue-scheduler"
"""The name of its connection in `pg_stat_activity`."""
logger = logging.getLogger("reportqueue")


class ScheduleWatch:
    """A wait that ends when a schedule changes, a bulk action has work or a signal arrives.

    A context: it uses the process's wake-up pipe.

    It listens on a connection of its own, which is idle: it holds no transaction and no lock. Without one, or behind a
    connection pool, a wait ends by its time or a signal alone.
    """

    def __enter__(self) -> Self:
        self._pipe, self._written = os.pipe()
        os.set_blocking(self._written, False)
        self._before = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        self._listening: psycopg.Connection[Any] | None = None
        self._pooled = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._pipe)
        os.close(self._written)
        self._stop_listening()

    def listen(self) -> None:
        """Listen. Call it before reading the schedules, or a change between the two would be missed."""
        if self._pooled or (self._listening is not None and not self._listening.closed):
            return
        self._stop_listening()
        try:
            self._listening = Address.for_listening().connect_directly(NAME)
            for channel in (SCHEDULES, BULK):
                self._listening.execute(f"LISTEN {channel}")
        except Pooled as error:
            self._pooled = True
            logger.warning("%s Until then the scheduler polls for changed schedules.", error)
        except psycopg.Error as error:
            self._stop_listening()
            logger.warning("Listening for changed schedules failed, trying again: %s", str(error).strip()[:200])

    def wait(self, seconds: float) -> None:
        """Wait until a schedule or a bulk action changes, a signal arrives or the time is over.

        Changes since `listen` count.
        """
        if self._listening is None:
            select.select([self._pipe], [], [], seconds)
            return
        if self._news(self._listening):
            return
        ready, _, _ = select.select([self._pipe, self._listening.fileno()], [], [], seconds)
        if self._pipe in ready:
            os.read(self._pipe, 4096)
        self._news(self._listening)

    def _news(self, listening: psycopg.Connection[Any]) -> bool:
        """Fetch the notifications; whether there were any. True also for a lost connection: changes may be missed."""
        try:
            return bool(list(listening.notifies(timeout=0)))
        except psycopg.OperationalError:
            self._stop_listening()
            return True

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
