"""The server's loop: takes runs in, starts them in order as there are slots, and reports those that die."""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from dagster import DagsterInstance

from dagster_reportqueue.warm import messages, processes, worker
from dagster_reportqueue.warm.code_version import Sources
from dagster_reportqueue.warm.guard import Guard
from dagster_reportqueue.warm.ledger import Ledger
from dagster_reportqueue.warm.leftovers import Leftovers
from dagster_reportqueue.warm.leftovers import Run as EndedRun
from dagster_reportqueue.warm.lost_runs import how_it_ended, report_deaths, report_remarks, write_ended
from dagster_reportqueue.warm.slots import Slot, Slots
from dagster_reportqueue.warm.stalls import Stalls
from dagster_reportqueue.warm.worker import Forked

SLOT_POLL_SECONDS = 0.1
"""How soon a slot that another server has freed is noticed; of this server's own runs it is noticed at once."""
LOOK_SECONDS = 5.0
"""How soon a run is noticed to be finished that could not wake the server."""
SETTLE_SECONDS = 1.0
"""How long the processes that an ended run has left may take to end by themselves, as helpers do that watch it."""
REPORT_SECONDS = 600.0
"""How long a death is tried to be reported while Dagster's storage does not answer."""
HUNG_SECONDS = 60.0
"""How much longer a reporter may take before it is killed: its storage may take a connection, and say nothing."""
LAST_REPORT_SECONDS = 5.0
REMEMBERED = 1000
MAX_NAMED = 10


@dataclass
class Run(Forked):
    """A run's process, from its start until it was waited for."""

    run_id: str
    slot: Slot
    began: float
    """Of `time.monotonic()`."""
    lingers: bool = False
    """Its run has ended for Dagster."""
    killed: bool = False
    """The server has killed it."""


class Server:
    """Single-threaded, and without a connection to anything: what it forks is as it is itself.

    It ends when its owner has hung up and no run is left; or, with all its runs, when it is asked to by a signal.
    """

    def __init__(
        self,
        instance: DagsterInstance,
        listener: socket.socket,
        owner: socket.socket,
        slots: Slots,
        sources: Sources,
        stop_seconds: float,
        linger_seconds: float,
        stalled_seconds: float,
        audit_seconds: float,
    ) -> None:
        self._instance = instance
        self._listener = listener
        self._owner: socket.socket | None = owner
        self._slots = slots
        self._sources = sources
        self._stop_seconds = stop_seconds
        self._linger_seconds = linger_seconds
        self._waiting: deque[str] = deque()
        self._runs: dict[str, Run] = {}
        self._reporters: list[Forked] = []
        self._refused: deque[str] = deque(maxlen=REMEMBERED)
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe()
        self._stop_asked = 0
        self._kill_at: float | None = None
        self._ledger = Ledger(len(slots))
        self._leftovers = Leftovers()
        self._stalls = Stalls(slots, stalled_seconds)
        self._guard: Guard | None = None
        self._audit_seconds = audit_seconds
        self._audited = -math.inf
        self._auditor: Forked | None = None
        self._audit: int | None = None
        """What the auditor writes to."""

    def serve(self) -> None:
        """Until there is nothing more to do."""
        processes.adopt_orphans()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        for number in worker.STOP_SIGNALS:
            signal.signal(number, self._note_stop)
        handlers: dict[Any, Callable[[], None]] = {
            self._listener: self._accept,
            self._owner: self._hung_up,
            self._wake: self._drain_wakeups,
        }
        for source, handler in handlers.items():
            self._selector.register(source, selectors.EVENT_READ, handler)
        self._stand_guard()
        while not self._done():
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._reap()
            self._end_what_is_due()
            self._clear_up()
            if self._stop_asked:
                self._stop()
            else:
                self._start_runs()
                self._notice_stall()
                self._start_audit()

    def _done(self) -> bool:
        ending = self._owner is None or self._kill_at is not None
        return ending and not (self._waiting or self._runs or self._leftovers or self._reporters)

    def _patience(self) -> float | None:
        """Seconds until something is to be done that nothing wakes it for."""
        now = time.monotonic()
        forks = (*self._runs.values(), *self._helpers())
        kills = (self._kill_at, self._leftovers.next_kill(), *(one.kill_at for one in forks))
        times = [instant for instant in kills if instant is not None]
        if self._waiting:
            times.append(now + SLOT_POLL_SECONDS)
        if self._runs:
            times.append(now + LOOK_SECONDS)
        return max(0.0, min(times) - now) if times else None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # whoever it was has gone again
        verbs = {"launch": self._launch, "terminate": self._terminate, "state": self._state}
        match messages.hear(connection):
            case {"verb": str(verb), "run_id": str(run_id)} if verb in verbs:
                messages.answer(connection, verbs[verb](run_id))
            case _:
                connection.close()  # nobody who knows how to ask

    def _launch(self, run_id: str) -> dict[str, Any]:
        if run_id in self._refused:
            return {"refused": "it was terminated before it came here"}
        if run_id in self._runs or run_id in self._waiting:
            return self._state(run_id)
        changed = self._sources.changed()
        if changed is not None:
            return {"stale": changed}
        if self._stop_asked:
            return {"failed": "it is being stopped."}
        if not self._waiting:
            self._stalls.moved()
        self._waiting.append(run_id)
        self._start_runs()
        return self._state(run_id)

    def _terminate(self, run_id: str) -> dict[str, Any]:
        found = self._state(run_id)
        if run_id in self._runs:
            self._ask_to_end(self._runs[run_id])
        elif run_id in self._waiting:
            self._waiting.remove(run_id)
        else:
            self._refused.append(run_id)
        return found

    def _state(self, run_id: str) -> dict[str, Any]:
        if run_id in self._runs:
            return {"state": "running", "pid": self._runs[run_id].pid}
        if run_id in self._waiting:
            said = {"state": "waiting", "before": self._waiting.index(run_id)}
            return said | ({"stalled": self._stalls.said} if self._stalls.said else {})
        return {"state": "unknown"}

    def _start_runs(self) -> None:
        while self._waiting:
            slot = None
            try:
                slot = self._slots.take()
                if slot is None:
                    return
                self._start(self._waiting[0], slot)
            except OSError as error:
                if slot is not None:
                    slot.free()
                self._report({self._waiting[0]: f"No process could be started for the run: {error}."})
            self._waiting.popleft()
            self._stalls.moved()

    def _start(self, run_id: str, slot: Slot) -> None:
        finish = partial(self._ledger.finish, slot.number)
        act = partial(worker.run, self._instance, run_id, finish, self._linger_seconds)
        self._ledger.clear(slot.number)
        pid = worker.fork(act, leave=partial(self._leave, slot))
        self._ledger.begin(slot.number, pid)
        self._runs[run_id] = Run(pid, None, run_id, slot, time.monotonic())
        slot.note(run_id, pid)

    def _leave(self, *taken: Slot) -> None:
        """In a forked process: close what is the server's."""
        self._selector.close()
        self._listener.close()
        if self._owner is not None:
            self._owner.close()
        os.close(self._wake)
        os.close(self._waker)
        if self._guard is not None:
            self._guard.leave()
        if self._audit is not None:
            os.close(self._audit)
        for slot in (*taken, *(run.slot for run in self._runs.values()), *self._leftovers.slots()):
            os.close(slot.descriptor)

    def _stand_guard(self) -> None:
        try:
            self._guard = Guard(self._ledger, self._leave)
        except OSError as error:
            print(f"No guard could be started for the runs: {error}", file=sys.stderr, flush=True)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._leftovers.forget(pid)
            for run in [run for run in self._runs.values() if run.pid == pid]:
                self._end(run, os.waitstatus_to_exitcode(status))
            self._reporters = [reporter for reporter in self._reporters if reporter.pid != pid]
            if self._auditor is not None and self._auditor.pid == pid:
                self._end_audit()
            if self._guard is not None and self._guard.pid == pid:
                self._guard.leave()
                self._guard = None
                self._stand_guard()

    def _end(self, run: Run, code: int) -> None:
        """Its process has ended."""
        del self._runs[run.run_id]
        finished = self._ledger.finished_at(run.slot.number) is not None
        if not finished:
            how = "did not end in time when it was asked to, and was killed" if run.killed else how_it_ended(code)
            self._report({run.run_id: f"The run's process (pid {run.pid}) {how} before the run was finished."})
        # One that ended by itself may have helpers, which see that and end.
        kill_at = time.monotonic() + (SETTLE_SECONDS if finished and code == 0 else 0.0)
        self._leftovers.add(EndedRun(run.run_id, run.pid, run.slot, kill_at))

    def _ask_to_end(self, run: Run) -> None:
        run.ask_to_end()
        run.end_by(time.monotonic() + self._stop_seconds)

    def _end_what_is_due(self) -> None:
        """Kill what was asked to end, or has ended for Dagster, and is still there."""
        now = time.monotonic()
        for run in self._runs.values():
            finished = self._ledger.finished_at(run.slot.number)
            if finished is not None and not run.lingers:
                run.lingers = True
                run.end_by(finished + self._linger_seconds)
            if run.due(now):
                self._kill(run)
        for helper in self._helpers():
            if helper.due(now):
                print(f"The reporter {helper.pid} hangs, and is killed.", file=sys.stderr, flush=True)
                helper.kill()

    def _kill(self, run: Run) -> None:
        if run.lingers and not run.killed:
            others = _listed(map(processes.describe, sorted(processes.children_of(run.pid))))
            self._remark(
                run.run_id,
                f"The run has ended, but its process (pid {run.pid}) was still there at the end of linger_seconds "
                f"({self._linger_seconds:g}), and was killed with all that it had started. It had "
                f"{processes.threads(run.pid)} threads; its child processes: {others or 'none'}. The output of the "
                "launcher's server shows where its threads were. Threads that are no daemons, exit handlers (atexit) "
                "and child processes have to end with the report.",
            )
        run.killed = True
        run.kill()

    def _clear_up(self) -> None:
        """Free the slots of the runs that have ended whole."""
        helpers = {helper.pid for helper in self._helpers()}
        if self._guard is not None:
            helpers.add(self._guard.pid)
        for run in self._leftovers.clear({run.pid for run in self._runs.values()}, helpers):
            self._ledger.clear(run.slot.number)
            run.slot.free()
            if run.killed:
                self._remark(
                    run.run_id,
                    f"The run has left processes, which were killed: {_listed(run.killed.values())}. A report has to "
                    "wait for what it starts; what is to outlive it belongs to another service.",
                )

    def _helpers(self) -> list[Forked]:
        return [*self._reporters, *([self._auditor] if self._auditor is not None else [])]

    def _start_audit(self) -> None:
        """Have Dagster asked which runs have ended for it: canceled by force, failed by run monitoring, or deleted."""
        now = time.monotonic()
        if self._auditor is not None or now < self._audited + self._audit_seconds:
            return
        old = [run for run in self._runs.values() if not run.lingers and now >= run.began + self._audit_seconds]
        if not old:
            return
        self._audited = now
        self._audit, answer = os.pipe()
        try:
            act = partial(write_ended, self._instance, [run.run_id for run in old], answer)
            self._auditor = Forked(worker.fork(act, leave=self._leave), now + HUNG_SECONDS)
        except OSError as error:
            print(f"Dagster could not be asked about the runs: {error}", file=sys.stderr, flush=True)
            os.close(self._audit)
            self._audit = None
        finally:
            os.close(answer)

    def _end_audit(self) -> None:
        self._auditor = None
        if self._audit is None:
            return
        with open(self._audit) as answer:
            self._audit = None
            ended = answer.read().split()
        for run in [self._runs[run_id] for run_id in ended if run_id in self._runs]:
            if self._ledger.finished_at(run.slot.number) is None:
                text = (
                    f"The run has ended for Dagster, but its process (pid {run.pid}) works on. It is asked to end, and "
                    f"killed after stop_seconds ({self._stop_seconds:g})."
                )
                self._remark(run.run_id, text)
                self._ask_to_end(run)

    def _notice_stall(self) -> None:
        text = self._stalls.look(len(self._waiting))
        if text is not None:
            self._remark(self._waiting[0], text)

    def _report(self, reasons: Mapping[str, str]) -> None:
        self._tell(reasons, partial(report_deaths, self._instance, reasons, seconds=REPORT_SECONDS))

    def _remark(self, run_id: str, text: str) -> None:
        self._tell({run_id: text}, partial(report_remarks, self._instance, {run_id: text}, seconds=REPORT_SECONDS))

    def _tell(self, texts: Mapping[str, str], act: Callable[[], None]) -> None:
        """Another process does it: it takes a connection, and time."""
        for run_id, text in texts.items():
            print(f"Run {run_id}: {text}", file=sys.stderr, flush=True)
        try:
            pid = worker.fork(act, leave=self._leave)
        except OSError as error:
            print(f"That could not be reported to Dagster: {error}", file=sys.stderr, flush=True)
        else:
            self._reporters.append(Forked(pid, time.monotonic() + REPORT_SECONDS + HUNG_SECONDS))

    def _hung_up(self) -> None:
        """The owner is gone or wants no more runs: those that are here are made, then this process ends."""
        if self._owner is not None:
            self._selector.unregister(self._owner)
            self._owner.close()
            self._owner = None

    def _note_stop(self, number: int, frame: object) -> None:
        self._stop_asked += 1

    def _stop(self) -> None:
        """Every run is asked to end, and killed if it has not after `stop_seconds`, or if this is asked for again."""
        now = time.monotonic()
        if self._kill_at is None:
            self._kill_at = now + self._stop_seconds
            for run in self._runs.values():
                self._ask_to_end(run)
            if self._waiting:
                self._report(dict.fromkeys(self._waiting, "The warm server was stopped before the run was started."))
                self._waiting.clear()
        elif now >= self._kill_at or self._stop_asked > 1:
            for run in self._runs.values():
                self._kill(run)
            self._leftovers.hurry()
            self._kill_at, self._stop_asked = now + LAST_REPORT_SECONDS, 1
        for reporter in self._reporters:  # if the storage does not answer, run monitoring will find the runs
            reporter.end_by(max(now, self._kill_at) + LAST_REPORT_SECONDS)

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 4096)


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + more


def _nothing(number: int, frame: object) -> None:
    """A signal with a handler wakes the selector; one without does not."""
