"""The faults: their names, where each may strike, and which of them strike in a scenario."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from tools.simulator.chance import Chance
from tools.simulator.history import History
from tools.simulator.world import Process, Task

REQUEST_LOST = "request lost"
ANSWER_LOST = "answer lost"
REQUEST_LATE = "request late, beyond the time-out"
ANSWER_LATE = "answer late, beyond the time-out"
DUPLICATED = "request sent twice"
BAD_GATEWAY = "answered 502"
CUT_OFF = "process cut off beyond its lease"
NETWORK = (REQUEST_LOST, ANSWER_LOST, REQUEST_LATE, ANSWER_LATE, DUPLICATED, BAD_GATEWAY, CUT_OFF)

DEADLOCK = "deadlock victim"
CONNECTION_CUT = "database connection cut"
COMMIT_UNHEARD = "database connection cut at the commit"
DATABASE = (DEADLOCK, CONNECTION_CUT, COMMIT_UNHEARD)

KILLED = "process killed"
FROZEN = "process frozen beyond its lease"
TERMINATED = "process told to end"
PROCESS = (KILLED, FROZEN, TERMINATED)

LAUNCH_FAILED = "run created, launch failed"
RUN_LOST = "run dead before its report, nobody told"
LAUNCH = (LAUNCH_FAILED, RUN_LOST)
TICK_FAILS = "tick fails while it submits its runs"

ROW_LOCKED = "row locked by a stranger"
SCHEDULE_LOCKED = "schedule locked by a stranger"
GENERATION_BOUND = "row at its last generation"
LAUNCHES_BOUND = "row at its last launch failure"
CLOCK_OFF = "clock of Dagster's side off"
RUN_TERMINATED = "run terminated by a person"
STRANGERS = (ROW_LOCKED, SCHEDULE_LOCKED, GENERATION_BOUND, LAUNCHES_BOUND, RUN_TERMINATED)

CRASHES = "report crashes its process"
INTERRUPTS = "report interrupts its process"
HANGS = "report hangs, heartbeats and all"
RAISES = "report raises"
REPORTS = (CRASHES, INTERRUPTS, HANGS, RAISES)

PROCESS_SHARE = 0.1
"""At a boundary, a process comes to harm this much more rarely than a call: a call has several boundaries."""

ALL = (*NETWORK, *DATABASE, *PROCESS, *LAUNCH, TICK_FAILS, *STRANGERS, CLOCK_OFF, *REPORTS)


class Faults:
    """Decides at each boundary whether a fault strikes. Each has a name, by which the shrinker can leave it out."""

    def __init__(
        self, chance: Chance, history: History, kinds: Collection[str], share: float, without: Collection[str]
    ) -> None:
        self._chance = chance
        self._history = history
        self.kinds = set(kinds)
        self._share = share
        self._without = without
        self.active = True
        """False in the calm at the end."""
        self.struck: list[str] = []
        """The names of those that struck, in order."""
        self.count = 0

    def strike(self, kinds: Sequence[str], task: Task, *, share: float = 1.0) -> str | None:
        """The fault that strikes this task's next call or step, of these kinds; None mostly."""
        task.calls += 1
        if not self.active or task.process.dead:
            return None
        name = (task.name, task.calls)
        if not self._chance.happens(self._share * share, "fault", *name):
            return None
        possible = [kind for kind in kinds if kind in self.kinds]
        if not possible:
            return None
        kind = self._chance.pick(possible, "kind", *name)
        return kind if self.note(f"{task.name}#{task.calls}", kind, task.process) else None

    def note(self, name: str, kind: str, process: Process | None = None, **facts: Any) -> bool:
        """Count a fault; False if it is to be left out."""
        if name in self._without:
            return False
        self.struck.append(name)
        self.count += 1
        run = None if process is None else process.facts.get("run")
        self._history.write("fault", point=kind, name=name, run=run, **facts)
        self._history.tell("FAULT", f"{kind} ({name})")
        return True


class ProcessFaults:
    """What strikes at the boundaries of processes."""

    def __init__(self, faults: Faults, chance: Chance, history: History) -> None:
        self._faults, self._chance, self._history = faults, chance, history
        self.terminate: Callable[[Process], None] = lambda process: None

    def boundary(self, task: Task) -> None:
        """Called at each boundary of each task."""
        process = task.process
        if not process.killable or process.dead:
            return
        possible = [KILLED]
        if "run" in process.facts:
            possible += [FROZEN, TERMINATED]
        kind = self._faults.strike(possible, task, share=PROCESS_SHARE)
        if kind == KILLED:
            process.world.kill(process)
        elif kind == FROZEN:
            seconds = self._chance.between(20, 150, "freeze", task.name, task.calls)
            self._history.write("stop", run=process.facts["run"])
            process.world.freeze(process, seconds)
            process.world.later(seconds, f"thaw {process.name}", lambda: self._thaw(process))
        elif kind == TERMINATED:
            self.terminate(process)

    def _thaw(self, process: Process) -> None:
        if not process.dead:
            self._history.write("cont", run=process.facts["run"])
