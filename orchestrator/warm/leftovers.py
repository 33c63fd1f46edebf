"""What ended runs have left: processes that they started, and that are children of the server now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from orchestrator.warm import processes
from orchestrator.warm.slots import Slot


@dataclass
class Run:
    """A run whose process has ended, and what of it has not; it keeps its slot until then."""

    run_id: str
    pid: int
    slot: Slot
    kill_at: float
    """When what it has left is killed, of `time.monotonic()`."""
    left: set[int] = field(default_factory=set)
    killed: dict[int, str] = field(default_factory=dict)
    """The processes that had to be killed, by their ids, in words."""


class Leftovers:
    """Orphans of a living run are the run's children. When its process ends, they become the server's at once.

    So an unknown child of the server was left by a run that has just ended.
    """

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._own = processes.children()
        """What loading the code has started: it stays."""

    def __bool__(self) -> bool:
        return bool(self._runs)

    def slots(self) -> Iterator[Slot]:
        """Those that are still held."""
        return (run.slot for run in self._runs)

    def add(self, run: Run) -> None:
        """The run's process has ended, and was waited for."""
        self._runs.append(run)

    def hurry(self) -> None:
        """Kill all of it now."""
        for run in self._runs:
            run.kill_at = 0.0

    def forget(self, pid: int) -> None:
        """A child of the server has ended, and was waited for."""
        self._own.discard(pid)

    def next_kill(self) -> float | None:
        """When `clear` has something to do that no ended process announces."""
        return min((run.kill_at for run in self._runs if run.left - run.killed.keys()), default=None)

    def clear(self, running: Set[int], helpers: Set[int]) -> list[Run]:
        """Kill what was left for too long; the runs of which nothing is left any more.

        `running` are the processes of runs, `helpers` the other children of the server that it has forked itself. A
        process that is killed hands its own children over: it is to be called again after each end of a process.
        """
        if not self._runs:
            return []
        found = processes.children() - running - helpers - self._own
        for run in self._runs:
            run.left &= found
        for pid in found.difference(*(run.left for run in self._runs)):
            self._assign(pid, running)
        now = time.monotonic()
        for run in self._runs:
            if now >= run.kill_at:
                for pid in run.left - run.killed.keys():
                    self._kill(run, pid)
        clear = [run for run in self._runs if not run.left]
        self._runs = [run for run in self._runs if run.left]
        return clear

    def _assign(self, pid: int, running: Set[int]) -> None:
        group = processes.group(pid)
        if group in running:
            return  # its run has ended, too, and was not waited for yet
        run = next((run for run in self._runs if run.pid == group), self._runs[-1])
        run.left.add(pid)

    def _kill(self, run: Run, pid: int) -> None:
        run.killed[pid] = processes.describe(pid)
        if processes.group(pid) == run.pid:
            processes.kill_with_group(run.pid)
        if not processes.kill_with_group(pid):  # of another user: a slot does not wait for it
            run.killed[pid] += " of another user, which could not be killed"
            run.left.discard(pid)
            self._own.add(pid)
