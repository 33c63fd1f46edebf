"""A value that several threads want, read by one of them and kept for some seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

FAILED_SECONDS = 1
"""So long callers get the error of the last reading: those who have waited for it must not try one after the other."""
T = TypeVar("T")


class Busy(Exception):
    """Another thread reads the value, for longer than the caller waits."""


class Shared(Generic[T]):
    """What `read` returns, at most `seconds` old. One thread reads it; others wait for that, at most `wait` seconds."""

    def __init__(self, read: Callable[[], T], seconds: float, wait: float) -> None:
        self._read, self._seconds, self._wait = read, seconds, wait
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Read it anew at the next call."""
        self._value: T | None = None
        self._error: Exception | None = None
        self._until = 0.0

    def get(self) -> T:
        """The value. Raises what the reading raised, and `Busy`."""
        if not self._lock.acquire(timeout=self._wait):
            raise Busy
        try:
            if time.monotonic() >= self._until:
                self._refresh()
            if self._error is not None:
                raise self._error
            assert self._value is not None  # noqa: S101  # there is one of both
            return self._value
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        seconds = self._seconds
        try:
            self._value, self._error = self._read(), None
        except Exception as error:
            self._value, self._error, seconds = None, error, FAILED_SECONDS
        self._until = time.monotonic() + seconds
