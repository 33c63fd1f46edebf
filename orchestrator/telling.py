"""A thread that tells the queue of what is made, while the next report is being made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from orchestrator.client import MAX_ROWS

T = TypeVar("T")


class Teller(Generic[T]):
    """Calls `tell` with whatever was put since its last call began: with one thing at once, with many while it is slow.

    So a report is told as soon as it is made, and those that take no time are told together. Leaving the context
    waits until all is told. What `tell` raises ends the thread, and is raised by `put`, or at the end.
    """

    def __init__(self, tell: Callable[[list[T]], None]) -> None:
        self._tell = tell
        self._untold: list[T] = []
        self._telling = False
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reportqueue-teller", daemon=True)

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
        """To be told."""
        with self._changed:
            if self._error is not None:
                raise self._error
            self._untold.append(made)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all that was put is told. Raises what `tell` raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not (self._untold or self._telling))
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        try:
            while some := self._next():
                self._tell(some)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> list[T]:
        with self._changed:
            self._telling = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._untold or self._closed)
            some, self._untold = self._untold[:MAX_ROWS], self._untold[MAX_ROWS:]
            self._telling = bool(some)
            return some
