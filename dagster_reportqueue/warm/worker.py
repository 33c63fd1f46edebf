"""A process that the server has forked: from the fork to its end."""

from __future__ import annotations

import atexit
import faulthandler
import logging
import multiprocessing.process
import multiprocessing.util
import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus, EventLogEntry
from dagster._cli.api import _execute_run_command_body
from dagster._utils.interrupts import capture_interrupts

from dagster_reportqueue.warm import processes
from dagster_reportqueue.warm.pooling import close_connections, forget_connections

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ENDS = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}
COURSE = ENDS | {
    DagsterEventType.STEP_OUTPUT,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_UP_FOR_RETRY,
}
"""Events that only the run's own process may store: how a step or the run ended."""
STDERR = 2
LAST_WORDS = 0.9
"""The share of the time that an ended run's process may stay, after which it prints where its threads are."""


@dataclass
class Forked:
    """The server's side of one."""

    pid: int
    kill_at: float | None
    """When it is killed, of `time.monotonic()`; None if it may go on."""

    def end_by(self, instant: float) -> None:
        """Set a limit. One that is set already may become earlier, never later."""
        self.kill_at = instant if self.kill_at is None else min(self.kill_at, instant)

    def due(self, now: float) -> bool:
        """Whether it is to be killed."""
        return self.kill_at is not None and now >= self.kill_at

    def ask_to_end(self) -> None:
        """As the code server asks a run of the default launcher, which ends it in good order."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """The process and its group; also one that is stopped, or that holds the interpreter's lock for ever."""
        self.kill_at = None
        processes.kill_with_group(self.pid)


def fork(act: Callable[[], None], *, leave: Callable[[], None]) -> int:
    """Fork a process that does `act` and ends; its process id. `leave` closes what of the server's it must not hold."""
    server = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # A signal that comes before the handlers are in place waits: the server's own would be wrong.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _live(act, leave, server)
        with suppress(OSError):  # also here, so that it has a group to kill from its first moment
            os.setpgid(pid, pid)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def run(instance: DagsterInstance, run_id: str, finish: Callable[[], None], linger_seconds: float) -> None:
    """What the process of a run does; as behind `dagster api execute_run`, by Dagster's own code.

    It calls `finish` as soon as Dagster knows that the run has ended.
    """
    server, alive = os.getppid(), os.getpid()

    def finished() -> None:
        if os.getpid() == alive:
            finish()
            with suppress(OSError):
                os.kill(server, signal.SIGCHLD)  # wakes it
            faulthandler.dump_traceback_later(LAST_WORDS * linger_seconds, file=STDERR)

    def hear(event: DagsterEvent) -> None:
        if event.event_type in ENDS:
            finished()

    os.register_at_fork(after_in_child=partial(_be_a_child, instance, run_id))
    with instance:
        if not _canceled(instance, run_id):
            _execute_run_command_body(run_id, instance, hear, set_exit_code_on_failure=False)
            _canceled(instance, run_id)  # asked for just before it began, so it did not begin
    close_connections(instance)
    finished()


def _canceled(instance: DagsterInstance, run_id: str) -> bool:
    """Whether the run was asked to end before it began; it has then. Dagster's code leaves it, or fails it."""
    asked = instance.get_run_by_id(run_id)
    if asked is None or asked.status != DagsterRunStatus.CANCELING:
        return False
    instance.report_run_canceled(asked)
    return True


def _be_a_child(instance: DagsterInstance, run_id: str) -> None:
    """Keep a process that a report has forked from the run's connections, and from reporting the run's steps.

    Without an exec, such a process can return from the op, or raise, and would go on as a second copy of the run. It
    is ended when it wants to store the first event of that.
    """
    forget_connections(instance)
    said = instance.handle_new_event

    def say(event: EventLogEntry, **options: Any) -> None:
        if event.run_id == run_id and event.dagster_event_type in COURSE:
            with suppress(Exception):
                print(f"A process that run {run_id} forked has come back from the op; it ends.", file=sys.__stderr__)
            os._exit(1)
        said(event, **options)

    instance.handle_new_event = say  # type: ignore[method-assign]


def _live(act: Callable[[], None], leave: Callable[[], None], server: int) -> NoReturn:
    code, alive = 1, os.getpid()
    try:
        processes.die_with(server)
        processes.adopt_orphans()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        leave()
        _forget_the_servers_exit()
        for number in STOP_SIGNALS:
            signal.signal(number, signal.default_int_handler)
        # Signals to the server's group (Ctrl-C in a terminal) reach a run once: by the server.
        os.setpgid(0, 0)
        _reseed()
        with capture_interrupts():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            act()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        if os.getpid() == alive:
            # As the interpreter ends: `os._exit` alone leaves a pool's workers, and the folders of this process.
            for end in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
                try:
                    end()
                except BaseException:
                    traceback.print_exc()
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _forget_the_servers_exit() -> None:
    """Drop the server's exit handlers: they remove folders that are in use, for instance.

    The standard library's handlers are registered again, for what the run makes. The server's finalizers are marked,
    and its child processes are forgotten, as `multiprocessing` does in a process that it forks.
    """
    atexit._clear()
    for inherited in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        inherited.atexit = False
    multiprocessing.process._children = set()  # type: ignore[attr-defined]
    atexit.register(logging.shutdown)
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = True  # type: ignore[attr-defined]
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]


def _reseed() -> None:
    # Python's own generator is reseeded after a fork; numpy's is not, and each report would draw the same numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
