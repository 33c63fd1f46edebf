"""Processes that ended runs have left behind. They have become children of the server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from dagster_reportqueue.warm import processes
from dagster_reportqueue.warm.slots import Slot


@dataclass
class Run:
    """A run whose process has ended. It keeps its slot until the processes that it left have ended, too."""

    run_id: str
    pid: int
    slot: Slot
    kill_at: float
    """When the processes that it left are killed (`time.monotonic()`)."""
    left: set[int] = field(default_factory=set)
    killed: dict[int, str] = field(default_factory=dict)
    """Descriptions of the processes that had to be killed, by process id."""


class Leftovers:
    """Tracks and kills what ended runs have left.

    Orphans of a living run are children of the run. When the run's process ends, they become the server's children
    at once. So an unknown child of the server was left by a run that has just ended.
    """

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._own = processes.children()
        """Processes that the code location started when it was loaded: they stay."""

    def __bool__(self) -> bool:
        return bool(self._runs)

    def slots(self) -> Iterator[Slot]:
        """The slots that ended runs still hold."""
        return (run.slot for run in self._runs)

    def add(self, run: Run) -> None:
        """The run's process has ended, and was waited for."""
        self._runs.append(run)

    def kill_all(self) -> None:
        """Have the next `clear` kill everything that is left."""
        for run in self._runs:
            run.kill_at = 0.0

    def forget(self, pid: int) -> None:
        """A child of the server has ended, and was waited for."""
        self._own.discard(pid)

    def next_kill(self) -> float | None:
        """When `clear` must be called next even if no process ends; None if it need not be."""
        return min((run.kill_at for run in self._runs if run.left - run.killed.keys()), default=None)

    def clear(self, running: Set[int], helpers: Set[int]) -> list[Run]:
        """Kill processes whose time is up; return the runs that have no process left.

        `running` are the processes of runs; `helpers` are the other processes that the server has forked. Children of
        a killed process become the server's, so call this again each time a process has ended.
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
            return  # its run's process has ended, too, and will be waited for next
        run = next((run for run in self._runs if run.pid == group), self._runs[-1])
        run.left.add(pid)

    def _kill(self, run: Run, pid: int) -> None:
        if processes.has_ended(pid):
            return  # it ended just now; the next call no longer finds it
        run.killed[pid] = processes.describe(pid)
        if processes.group(pid) == run.pid:
            processes.kill_group(run.pid)  # by now, the run's own process id may belong to another process
        if not processes.kill_with_group(pid):  # of another user: a slot does not wait for it
            run.killed[pid] += " of another user, which could not be killed"
            run.left.discard(pid)
            self._own.add(pid)
