"""Memory that a server shares with its runs and its guard. Unlike a file, a report cannot close it."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator

WORD = 8


class Ledger:
    """For each slot: the run's process id, and when the run finished. Each word has one writer at a time."""

    def __init__(self, slots: int) -> None:
        self._count = slots
        self._words = memoryview(mmap.mmap(-1, 2 * slots * WORD)).cast("q")

    def begin(self, slot: int, pid: int) -> None:
        """Note the process of the run that has the slot."""
        self._words[slot] = pid

    def finish(self, slot: int) -> None:
        """Note that Dagster knows how the run ended; called by the run's process. The first call counts."""
        if not self._words[self._count + slot]:
            self._words[self._count + slot] = time.monotonic_ns()

    def finished_at(self, slot: int) -> float | None:
        """When the run finished (`time.monotonic()`); None if it has not."""
        finished = self._words[self._count + slot]
        return finished / 1e9 if finished else None

    def clear(self, slot: int) -> None:
        """Remove the run of the slot."""
        self._words[slot] = self._words[self._count + slot] = 0

    def pids(self) -> Iterator[int]:
        """The process ids of the runs that have a slot."""
        return (pid for pid in self._words[: self._count] if pid)
