"""SIGINT and SIGTERM while a run has a row: they stop the report's work, but never cut a call to the queue in half."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from dagster import DagsterExecutionInterruptedError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """In this context the signals are held back, except between `deliver()` and `hold()`, where they are raised.

    That may be several times: once for each piece of work.

    One that came too late to be raised is sent again at the end, to whoever had the handler before. Signals reach
    the main thread alone: in another, all this does nothing, and the work has to ask.
    """

    def __init__(self) -> None:
        self.received_at: float | None = None
        """When (`time.monotonic()`) a signal last came from outside; those of `interrupt()` do not count."""
        self._owed: int | None = None
        self._raising = False  # of the main thread alone: nothing lies between the handler and this
        self._interruptible = False  # of `interrupt()`, within the lock; and whose work that is
        self._whose: object = None
        self._own = False
        self._lock = threading.Lock()
        self._in_main = threading.current_thread() is threading.main_thread()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if self._in_main:
            try:
                for number in SIGNALS:
                    self._before[number] = signal.getsignal(number)
                    signal.signal(number, self._handle)
            except BaseException:
                self._restore()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        if self._owed is not None:
            signal.raise_signal(self._owed)

    def deliver(self, whose: object = None) -> None:
        """From here on signals are raised as `DagsterExecutionInterruptedError`, one that has come before at once.

        `whose` work it is that begins here, for `interrupt()`.
        """
        with self._lock:
            self._interruptible = self._in_main
            self._whose = whose
        self._raising = True
        if self._owed is not None:
            self._owed = None
            raise DagsterExecutionInterruptedError

    def hold(self) -> None:
        """No signal is raised any more. Call it in a `finally`, and again in an `except` around that: the very
        call may be interrupted.
        """
        self._raising = False
        with self._lock:
            self._interruptible = False

    def interrupt(self, whose: object = None, *, again: bool = True) -> None:
        """From any thread: raise in the main thread, if it is between `deliver()` and `hold()` with this work.

        `again=False` repeats one that was not heard: a signal that arrives just before a sleep or a read does not
        wake it, and is raised only after it.
        """
        with self._lock:
            ident = threading.main_thread().ident
            mine = self._interruptible and self._whose is whose
            if mine and ident is not None and (again or self._own):
                self._own = True
                # A real signal, so that a sleep or a read in the report's code wakes up.
                signal.pthread_kill(ident, signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._own:
            self._own = False
        else:
            self.received_at = time.monotonic()
            if not self._raising:
                self._owed = number
        if self._raising:
            raise DagsterExecutionInterruptedError

    def _restore(self) -> None:
        try:
            self._put_back()
        finally:
            self._put_back()  # the handler that is back may have raised at once

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
