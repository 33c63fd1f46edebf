"""A thread that sends finished reports to the queue while the next report is being made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from dagster_reportqueue.client import MAX_BATCH_ROWS

T = TypeVar("T")


class CompletionSender(Generic[T]):
    """Sends finished reports in the background; the next call sends together all that finish during a call.

    `send` is called with 1 to 100 of them. Leaving the context waits until all are sent. An error of `send` ends the
    thread; `put`, `flush` or the end of the context raises it.
    """

    def __init__(self, send: Callable[[list[T]], None]) -> None:
        self._send = send
        self._unsent: list[T] = []
        self._sending = False
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reportqueue-completions", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def put(self, made: T) -> None:
        """Add one to be sent."""
        with self._changed:
            if self._error is not None:
                raise self._error
            self._unsent.append(made)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything that was put is sent. Raises the error of `send`, if there was one."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not (self._unsent or self._sending))
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        try:
            while some := self._next():
                self._send(some)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> list[T]:
        with self._changed:
            self._sending = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._unsent or self._closed)
            some, self._unsent = self._unsent[:MAX_BATCH_ROWS], self._unsent[MAX_BATCH_ROWS:]
            self._sending = bool(some)
            return some
