"""Faults of this project's history, mended long ago, that can be put back: the simulator must find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def installed(name: str | None) -> Iterator[None]:
    """Put the fault of this name back; None: put back nothing."""
    yield
