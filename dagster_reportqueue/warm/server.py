"""The server's loop: takes runs in, starts them in order as there are slots, and reports those that die."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from dagster import DagsterInstance

from dagster_reportqueue.warm import messages, worker
from dagster_reportqueue.warm.code_version import Sources
from dagster_reportqueue.warm.lost_runs import how_it_ended, report_deaths
from dagster_reportqueue.warm.slots import Slots
from dagster_reportqueue.warm.worker import Forked

SLOT_POLL_SECONDS = 0.1
"""How soon a slot that another server has freed is noticed; of this server's own runs it is noticed at once."""
REPORT_SECONDS = 600.0
"""How long a death is tried to be reported while Dagster's storage does not answer."""
LAST_REPORT_SECONDS = 5.0
REMEMBERED = 1000


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
    ) -> None:
        self._instance = instance
        self._listener = listener
        self._owner: socket.socket | None = owner
        self._slots = slots
        self._sources = sources
        self._stop_seconds = stop_seconds
        self._waiting: deque[str] = deque()
        self._runs: dict[str, Forked] = {}
        self._reporters: list[Forked] = []
        self._refused: deque[str] = deque(maxlen=REMEMBERED)
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe()
        self._stop_asked = 0
        self._kill_at: float | None = None

    def serve(self) -> None:
        """Until there is nothing more to do."""
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
        while not self._done():
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._reap()
            if self._stop_asked:
                self._stop()
            else:
                self._start_runs()

    def _done(self) -> bool:
        ending = self._owner is None or self._kill_at is not None
        return ending and not (self._waiting or self._runs or self._reporters)

    def _patience(self) -> float | None:
        if self._kill_at is not None:
            return max(0.0, self._kill_at - time.monotonic())
        return SLOT_POLL_SECONDS if self._waiting else None

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
        self._waiting.append(run_id)
        self._start_runs()
        return self._state(run_id)

    def _terminate(self, run_id: str) -> dict[str, Any]:
        found = self._state(run_id)
        if run_id in self._runs:
            self._runs[run_id].ask_to_end()
        elif run_id in self._waiting:
            self._waiting.remove(run_id)
        else:
            self._refused.append(run_id)
        return found

    def _state(self, run_id: str) -> dict[str, Any]:
        if run_id in self._runs:
            return {"state": "running", "pid": self._runs[run_id].pid}
        if run_id in self._waiting:
            return {"state": "waiting", "before": self._waiting.index(run_id)}
        return {"state": "unknown"}

    def _start_runs(self) -> None:
        while self._waiting:
            run_id = self._waiting[0]
            try:
                slot = self._slots.take()
                if slot is None:
                    return
                try:
                    self._runs[run_id] = self._fork(partial(worker.run, self._instance, run_id))
                finally:
                    os.close(slot)  # the forked process holds it now
            except OSError as error:
                self._report({run_id: f"No process could be started for the run: {error}."})
            self._waiting.popleft()

    def _fork(self, act: Callable[[], None]) -> Forked:
        return worker.fork(act, leave=self._leave)

    def _leave(self) -> None:
        """In a forked process: close what is the server's."""
        self._selector.close()
        for end in (self._listener, self._owner, *(one.line for one in (*self._runs.values(), *self._reporters))):
            if end is not None:
                end.close()
        os.close(self._wake)
        os.close(self._waker)

    def _reap(self) -> None:
        while self._runs or self._reporters:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            for run_id, run in self._runs.items():
                if run.pid == pid:
                    del self._runs[run_id]
                    if not run.finished() or code != 0:
                        ended = how_it_ended(code)
                        self._report({run_id: f"The run's process (pid {pid}) {ended} before the run was finished."})
                    break
            for reporter in [one for one in self._reporters if one.pid == pid]:
                self._reporters.remove(reporter)
                reporter.line.close()

    def _report(self, reasons: Mapping[str, str]) -> None:
        """Another process does it: it takes a connection, and time."""
        for run_id, reason in reasons.items():
            print(f"Run {run_id}: {reason}", file=sys.stderr, flush=True)
        try:
            act = partial(report_deaths, self._instance, reasons, seconds=REPORT_SECONDS)
            self._reporters.append(self._fork(act))
        except OSError as error:
            print(f"That could not be reported to Dagster: {error}", file=sys.stderr, flush=True)

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
                run.ask_to_end()
            if self._waiting:
                self._report(dict.fromkeys(self._waiting, "The warm server was stopped before the run was started."))
                self._waiting.clear()
        elif now >= self._kill_at or self._stop_asked > 1:
            if not self._runs:
                for reporter in self._reporters:  # the storage does not answer; run monitoring will find them
                    reporter.kill()
            for run in self._runs.values():
                run.kill()
            self._kill_at, self._stop_asked = now + LAST_REPORT_SECONDS, 1

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 4096)


def _nothing(number: int, frame: object) -> None:
    """A signal with a handler wakes the selector; one without does not."""
