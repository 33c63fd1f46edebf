"""SIGINT and SIGTERM while a run owns a row: they stop the report's work, but never interrupt a call to the queue."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from dagster import DagsterExecutionInterruptedError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """In this context, signals are raised only between `deliver()` and `hold()`, and held back otherwise.

    `deliver()` and `hold()` may be called several times, once for each report. A signal that came too late to be
    raised is sent again at the end of the context, to the handler that was set before. Signals reach the main thread
    only. In another thread this class does nothing, and the work has to ask whether it should stop.
    """

    def __init__(self) -> None:
        self.received_at: float | None = None
        """When (`time.monotonic()`) the last signal came from outside; signals of `interrupt()` do not count."""
        self._owed: int | None = None
        self._raising = False  # used in the main thread only, so it needs no lock
        self._interruptible = False  # whether `interrupt()` may send a signal, and to whose work; guarded by the lock
        self._owner: object = None
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

    def deliver(self, owner: object = None) -> None:
        """Raise signals as `DagsterExecutionInterruptedError` from here on; a pending signal is raised immediately.

        `owner` identifies the work that `interrupt()` may stop.
        """
        with self._lock:
            self._interruptible = self._in_main
            self._owner = owner
        self._raising = True
        if self._owed is not None:
            self._owed = None
            raise DagsterExecutionInterruptedError

    def hold(self) -> None:
        """Raise no more signals.

        Call it in a `finally`, and again in an `except` around that: a signal may interrupt this call itself.
        """
        self._raising = False
        with self._lock:
            self._interruptible = False

    def interrupt(self, owner: object = None, *, again: bool = True) -> None:
        """Interrupt the main thread if it does the work of `owner`, between `deliver()` and `hold()`; from any thread.

        `again=False` only repeats an interrupt that has not been raised yet. A signal that arrives just before a sleep
        or a read does not wake it.
        """
        with self._lock:
            ident = threading.main_thread().ident
            mine = self._interruptible and self._owner is owner
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
            self._put_back()  # the first handler put back may have raised immediately

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
