"""The server's loop: accepts runs, starts them in order as slots become free, and reports runs that die."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from dagster import DagsterInstance

from dagster_reportqueue.code_version import Sources
from dagster_reportqueue.warm import messages, processes, worker
from dagster_reportqueue.warm.config import ServerConfig
from dagster_reportqueue.warm.guard import Guard
from dagster_reportqueue.warm.ledger import Ledger
from dagster_reportqueue.warm.leftovers import Leftovers
from dagster_reportqueue.warm.leftovers import Run as EndedRun
from dagster_reportqueue.warm.lost_runs import how_it_ended
from dagster_reportqueue.warm.reporters import Auditor, Reporters
from dagster_reportqueue.warm.slots import Slot, Slots
from dagster_reportqueue.warm.stalls import Stalls
from dagster_reportqueue.warm.worker import Forked

SLOT_POLL_SECONDS = 0.1
"""How often the server looks for a slot that another server has freed. It notices its own free slots at once."""
FINISHED_POLL_SECONDS = 5.0
"""How often the server looks for finished runs whose signal did not wake it."""
SETTLE_SECONDS = 1.0
"""How long processes that an ended run has left may take to end by themselves, as helpers that watch the run do."""
LAST_REPORT_SECONDS = 5.0
"""How long reporters may go on when the server is to end."""
EXHAUSTED_SECONDS = 0.1
"""The pause if the machine has no file or memory left for a caller, who still waits: the selector does not pause."""
MAX_REFUSED = 1000
"""Terminated runs that are refused should they be launched later."""
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass
class Run(Forked):
    """A run's process, from its start until the server has waited for it."""

    run_id: str
    slot: Slot
    began: float
    """Of `time.monotonic()`."""
    lingers: bool = False
    """Its run has ended for Dagster."""
    killed: bool = False
    """The server has killed it."""


class Server:
    """Has one thread and no open connection, so that it can be forked safely.

    It ends when its owner has closed the connection and no run is left. A signal ends it together with all its runs.
    """

    def __init__(
        self,
        instance: DagsterInstance,
        listener: socket.socket,
        owner: socket.socket,
        slots: Slots,
        sources: Sources,
        config: ServerConfig,
    ) -> None:
        self._instance = instance
        self._listener = listener
        self._owner: socket.socket | None = owner
        self._slots = slots
        self._sources = sources
        self._config = config
        self._waiting: deque[str] = deque()
        self._runs: dict[str, Run] = {}
        self._refused: deque[str] = deque(maxlen=MAX_REFUSED)
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe()
        self._stop_asked = 0
        self._kill_at: float | None = None
        self._ledger = Ledger(len(slots))
        self._leftovers = Leftovers()
        self._stalls = Stalls(slots, config.stalled_seconds)
        self._guard: Guard | None = None
        self._reporters = Reporters(instance, self._close_inherited)
        self._auditor = Auditor(instance, config.audit_seconds, self._close_inherited)

    def serve(self) -> None:
        """Run the loop until nothing is left to do."""
        processes.adopt_orphans()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        for number in worker.STOP_SIGNALS:
            signal.signal(number, self._note_stop)
        handlers: dict[Any, Callable[[], None]] = {
            self._listener: self._accept,
            self._owner: self._owner_closed,
            self._wake: self._drain_wakeups,
        }
        for source, handler in handlers.items():
            self._selector.register(source, selectors.EVENT_READ, handler)
        self._start_guard()
        while not self._done():
            for key, _ in self._selector.select(self._timeout()):
                try:
                    key.data()
                except Exception:  # one caller's question must not end the runs of all
                    processes.say(traceback.format_exc())
            self._reap()
            self._end_what_is_due()
            self._free_slots()
            if self._stop_asked:
                self._stop()
            else:
                self._start_runs()
                self._report_stall()
                self._start_audit()
        self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """Answer the callers that came too late: of a launch without an answer nobody knows whether it was received."""
        with suppress(OSError):
            os.unlink(self._listener.getsockname())  # a later caller is told that no server listens
        self._listener.setblocking(False)
        with suppress(OSError):
            while True:
                self._answer(self._listener.accept()[0])

    def _done(self) -> bool:
        ending = self._owner is None or self._kill_at is not None
        return ending and not (self._waiting or self._runs or self._leftovers or self._reporters)

    def _timeout(self) -> float | None:
        """Seconds until something is due that no event announces; None if there is no such thing."""
        now = time.monotonic()
        forks = (*self._runs.values(), *self._helpers())
        kills = (self._kill_at, self._leftovers.next_kill(), *(one.kill_at for one in forks))
        times = [instant for instant in kills if instant is not None]
        if self._waiting:
            times.append(now + SLOT_POLL_SECONDS)
        if self._runs:
            times.append(now + FINISHED_POLL_SECONDS)
        return max(0.0, min(times) - now) if times else None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                time.sleep(EXHAUSTED_SECONDS)
            return  # otherwise, the caller has closed the connection already
        self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        verbs = {"launch": self._launch, "terminate": self._terminate, "state": self._state}
        match messages.receive(connection):
            case {"verb": str(verb), "run_id": str(run_id)} if verb in verbs:
                messages.answer(connection, verbs[verb](run_id))
            case _:
                connection.close()  # not a question of ours

    def _launch(self, run_id: str) -> dict[str, Any]:
        if run_id in self._refused:
            return {"refused": "it was terminated before it came here"}
        if run_id in self._runs or run_id in self._waiting:
            return self._state(run_id)
        changed = self._sources.changed()
        if changed is not None or self._owner is None:
            return {"stale": changed or "another server has taken its place"}
        if self._stop_asked:
            return {"failed": "it is being stopped."}
        if not self._waiting:
            self._stalls.progressed()
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
            answer = {"state": "waiting", "before": self._waiting.index(run_id)}
            return answer | ({"stalled": self._stalls.report} if self._stalls.report else {})
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
                self._reporters.report_deaths({self._waiting[0]: f"No process could be started for the run: {error}."})
            self._waiting.popleft()
            self._stalls.progressed()

    def _start(self, run_id: str, slot: Slot) -> None:
        finish = partial(self._ledger.finish, slot.number)
        act = partial(worker.run, self._instance, run_id, finish, self._config.linger_seconds)
        self._ledger.clear(slot.number)
        pid = worker.fork(act, close_inherited=partial(self._close_inherited, slot))
        self._ledger.begin(slot.number, pid)
        self._runs[run_id] = Run(pid, None, run_id, slot, time.monotonic())
        slot.note(run_id, pid)

    def _close_inherited(self, *taken: Slot) -> None:
        """Close the server's files in a forked process; `taken` is the slot that the process has, if it is a run's."""
        self._selector.close()
        self._listener.close()
        if self._owner is not None:
            self._owner.close()
        os.close(self._wake)
        os.close(self._waker)
        if self._guard is not None:
            self._guard.close()
        self._auditor.close()
        for slot in (*taken, *(run.slot for run in self._runs.values()), *self._leftovers.slots()):
            os.close(slot.descriptor)

    def _start_guard(self) -> None:
        try:
            self._guard = Guard(self._ledger, self._close_inherited)
        except OSError as error:
            processes.say(f"No guard could be started for the runs: {error}")

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
            self._reporters.reaped(pid)
            self._end_runs_that_ended(self._auditor.reaped(pid))
            if self._guard is not None and self._guard.pid == pid:
                self._guard.close()
                self._guard = None
                self._start_guard()

    def _end(self, run: Run, code: int) -> None:
        """The run's process has ended."""
        del self._runs[run.run_id]
        finished = self._ledger.finished_at(run.slot.number) is not None
        if not finished:
            how = "did not end in time when it was asked to, and was killed" if run.killed else how_it_ended(code)
            self._reporters.report_deaths(
                {run.run_id: f"The run's process (pid {run.pid}) {how} before the run was finished."}
            )
        elif run.asked:
            # If the termination came between the run's last event and the end of its process, Dagster would show the
            # run as canceling for ever. Another run that has ended stays as it is.
            self._reporters.report_deaths({run.run_id: "The run had just ended when it was terminated."})
        # A run that ended by itself may have helpers, which notice its end and then end, too.
        kill_at = time.monotonic() + (SETTLE_SECONDS if finished and code == 0 else 0.0)
        self._leftovers.add(EndedRun(run.run_id, run.pid, run.slot, kill_at))

    def _ask_to_end(self, run: Run) -> None:
        run.ask_to_end()
        run.end_by(time.monotonic() + self._config.stop_seconds)

    def _end_what_is_due(self) -> None:
        """Kill processes whose time is up: they were asked to end, or their run has ended for Dagster."""
        now = time.monotonic()
        for run in self._runs.values():
            finished = self._ledger.finished_at(run.slot.number)
            if finished is not None and not run.lingers:
                run.lingers = True
                run.end_by(finished + self._config.linger_seconds)
            if run.due(now):
                self._kill(run)
        for helper in self._helpers():
            if helper.due(now):
                processes.say(f"The reporter {helper.pid} hangs and is killed.")
                helper.kill()

    def _kill(self, run: Run) -> None:
        if run.lingers and not run.killed:
            others = processes.listed(map(processes.describe, sorted(processes.children_of(run.pid))))
            self._reporters.report_remark(
                run.run_id,
                f"The run has ended, but its process (pid {run.pid}) was still there at the end of linger_seconds "
                f"({self._config.linger_seconds:g}), and was killed with all that it had started. It had "
                f"{processes.threads(run.pid)} threads; its child processes: {others or 'none'}. The output of the "
                "launcher's server shows where its threads were. Threads that are no daemons, exit handlers (atexit) "
                "and child processes have to end with the report.",
            )
        run.killed = True
        run.kill()

    def _free_slots(self) -> None:
        """Free the slots of runs that have ended together with all that they had started."""
        helpers = {helper.pid for helper in self._helpers()}
        if self._guard is not None:
            helpers.add(self._guard.pid)
        for run in self._leftovers.clear({run.pid for run in self._runs.values()}, helpers):
            self._ledger.clear(run.slot.number)
            run.slot.free()
            if run.killed:
                self._reporters.report_remark(
                    run.run_id,
                    f"The run has left processes, which were killed: {processes.listed(run.killed.values())}. A report "
                    "has to wait for what it starts; what is to outlive it belongs to another service.",
                )

    def _helpers(self) -> list[Forked]:
        return [*self._reporters, *([self._auditor.process] if self._auditor.process is not None else [])]

    def _start_audit(self) -> None:
        now = time.monotonic()
        if not self._auditor.is_due():
            return
        old = [run for run in self._runs.values() if not run.lingers and now >= run.began + self._auditor.seconds]
        if old:
            self._auditor.ask([run.run_id for run in old])

    def _end_runs_that_ended(self, run_ids: Iterable[str]) -> None:
        """Ask runs to end that have ended for Dagster."""
        for run in [self._runs[run_id] for run_id in run_ids if run_id in self._runs]:
            if self._ledger.finished_at(run.slot.number) is None:
                self._reporters.report_remark(
                    run.run_id,
                    f"The run has ended for Dagster, but its process (pid {run.pid}) works on. It is asked to end, and "
                    f"killed after stop_seconds ({self._config.stop_seconds:g}).",
                )
                self._ask_to_end(run)

    def _report_stall(self) -> None:
        text = self._stalls.due_report(len(self._waiting))
        if text is not None:
            self._reporters.report_remark(self._waiting[0], text)

    def _owner_closed(self) -> None:
        """The owner has ended or retires the server: it finishes the runs that it has, then ends."""
        if self._owner is not None:
            self._selector.unregister(self._owner)
            self._owner.close()
            self._owner = None

    def _note_stop(self, number: int, frame: object) -> None:
        self._stop_asked += 1

    def _stop(self) -> None:
        """Ask every run to end; kill what is left after `stop_seconds`, or at a second signal."""
        now = time.monotonic()
        if self._kill_at is None:
            self._kill_at = now + self._config.stop_seconds
            for run in self._runs.values():
                self._ask_to_end(run)
            if self._waiting:
                self._reporters.report_deaths(
                    dict.fromkeys(self._waiting, "The warm server was stopped before the run was started.")
                )
                self._waiting.clear()
        elif now >= self._kill_at or self._stop_asked > 1:
            for run in self._runs.values():
                self._kill(run)
            self._leftovers.kill_all()
            self._kill_at, self._stop_asked = now + LAST_REPORT_SECONDS, 1
        for reporter in self._reporters:  # if the storage does not answer, run monitoring finds the runs
            reporter.end_by(max(now, self._kill_at) + LAST_REPORT_SECONDS)

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 4096)


def _nothing(number: int, frame: object) -> None:
    """A signal with a handler wakes the selector; one without does not."""
