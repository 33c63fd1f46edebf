"""Waiting for a condition, with a deadline: never for a while. And what goes on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")
NEVER = 60.0
"""Seconds, longer than any test here may take: a wait that ends has been interrupted."""


def until(condition: Callable[[], object], seconds: float = 20, *, what: str = "") -> None:
    """Look until it holds. Raises `AssertionError` when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.01)


def in_thread(pool: ThreadPoolExecutor, act: Callable[..., T], *arguments: Any) -> Future[T]:
    """Do something in a thread, which leaves no database connection behind."""

    def call() -> T:
        try:
            return act(*arguments)
        finally:
            connections.close_all()

    return pool.submit(call)


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread, and fail if it fails."""
    with ThreadPoolExecutor(1) as pool:
        done = in_thread(pool, act)
        yield
        done.result(NEVER)
