"""Memory that a server shares with its runs and its guard: a run's code may close every file, but not this."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator

WORD = 8


class Ledger:
    """For each slot the run's process id, and when the run was finished. Each word has one writer at a time."""

    def __init__(self, slots: int) -> None:
        self._count = slots
        self._words = memoryview(mmap.mmap(-1, 2 * slots * WORD)).cast("q")

    def begin(self, slot: int, pid: int) -> None:
        """A run's process has the slot."""
        self._words[slot] = pid

    def finish(self, slot: int) -> None:
        """Called by the run's process when Dagster knows how the run ended. The first call counts."""
        if not self._words[self._count + slot]:
            self._words[self._count + slot] = time.monotonic_ns()

    def finished_at(self, slot: int) -> float | None:
        """When it was finished, of `time.monotonic()`; None if it was not."""
        said = self._words[self._count + slot]
        return said / 1e9 if said else None

    def clear(self, slot: int) -> None:
        """The slot's run is gone."""
        self._words[slot] = self._words[self._count + slot] = 0

    def pids(self) -> Iterator[int]:
        """Of the runs that have a slot."""
        return (pid for pid in self._words[: self._count] if pid)
