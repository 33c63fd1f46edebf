"""A process that the server forks, from the fork to its end."""

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

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, EventLogEntry
from dagster._cli.api import _execute_run_command_body
from dagster._utils.interrupts import capture_interrupts

from dagster_reportqueue.early_terminations import cancel_if_terminated
from dagster_reportqueue.pooling import close_connections, forget_connections
from dagster_reportqueue.preload import reseed
from dagster_reportqueue.warm import processes

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ENDS = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}
COURSE = ENDS | {
    DagsterEventType.STEP_OUTPUT,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_UP_FOR_RETRY,
}
"""Events that say how a step or the run ended: only the run's own process may store them."""
STDERR = 2
DUMP_STACKS_AT = 0.9
"""The share of `linger_seconds` after which the process of an ended run prints the stacks of its threads."""


@dataclass
class Forked:
    """A forked process, as the server knows it."""

    pid: int
    kill_at: float | None
    """When it is killed (`time.monotonic()`); None if it may go on."""

    asked = False
    """Whether it was asked to end."""

    def end_by(self, instant: float) -> None:
        """Set the time at which it is killed; a time that is set already may become earlier, never later."""
        self.kill_at = instant if self.kill_at is None else min(self.kill_at, instant)

    def due(self, now: float) -> bool:
        """Whether it is to be killed."""
        return self.kill_at is not None and now >= self.kill_at

    def ask_to_end(self) -> None:
        """Send SIGTERM, as the code server does for the default launcher: the run ends in good order."""
        self.asked = True
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and its group, also if it is stopped or never releases the interpreter's lock."""
        self.kill_at = None
        processes.kill_with_group(self.pid)


def fork(act: Callable[[], None], *, close_inherited: Callable[[], None]) -> int:
    """Fork a process that calls `act` and ends; return its id. `close_inherited` closes the server's files in it."""
    server = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # its reader may be gone
            stream.flush()
    # A signal waits until the process has its own handlers: the server's would be wrong for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _run_child(act, close_inherited, server)
        with suppress(OSError):  # here too: the process has a group to kill from its first moment
            os.setpgid(pid, pid)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def run(instance: DagsterInstance, run_id: str, finish: Callable[[], None], linger_seconds: float) -> None:
    """Execute a run in its process, with Dagster's code behind `dagster api execute_run`.

    Calls `finish` as soon as Dagster knows that the run has ended.
    """
    server, alive = os.getppid(), os.getpid()

    def finished() -> None:
        if os.getpid() == alive:
            finish()
            with suppress(OSError):
                os.kill(server, signal.SIGCHLD)  # wakes it
            faulthandler.dump_traceback_later(DUMP_STACKS_AT * linger_seconds, file=STDERR)

    ended = False

    def on_event(event: DagsterEvent) -> None:
        nonlocal ended
        if event.event_type in ENDS:
            ended = True
            finished()

    os.register_at_fork(after_in_child=partial(_restrict_forked_copy, instance, run_id))
    with instance:
        if not cancel_if_terminated(instance, run_id):
            _execute_run_command_body(run_id, instance, on_event, set_exit_code_on_failure=False)
            if not ended:
                cancel_if_terminated(instance, run_id)  # a termination just before the start kept the run from starting
    close_connections(instance)
    finished()


def _restrict_forked_copy(instance: DagsterInstance, run_id: str) -> None:
    """Keep a process that a report has forked from using the run's connections and from reporting the run's steps.

    A process that is forked without an exec can return from the op, or raise. It would continue as a second copy of
    the run, so it is ended when it tries to store the first event of its own.
    """
    forget_connections(instance)
    handle_new_event = instance.handle_new_event

    def handle(event: EventLogEntry, **options: Any) -> None:
        if event.run_id == run_id and event.dagster_event_type in COURSE:
            with suppress(Exception):
                print(f"A process that run {run_id} forked has returned from the op; it ends.", file=sys.__stderr__)
            os._exit(1)
        handle_new_event(event, **options)

    instance.handle_new_event = handle  # type: ignore[method-assign]


def _run_child(act: Callable[[], None], close_inherited: Callable[[], None], server: int) -> NoReturn:
    code, alive = 1, os.getpid()
    try:
        processes.die_with(server)
        processes.adopt_orphans()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_inherited()
        _drop_inherited_exit_handlers()
        for number in STOP_SIGNALS:
            signal.signal(number, signal.default_int_handler)
        # In its own group, a run gets a Ctrl-C in the terminal once: from the server.
        os.setpgid(0, 0)
        reseed()
        with capture_interrupts():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            act()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        if os.getpid() == alive:
            # End as the interpreter does: `os._exit` alone would leave a pool's workers and temporary folders behind.
            for end in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
                try:
                    end()
                except BaseException:
                    traceback.print_exc()
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _drop_inherited_exit_handlers() -> None:
    """Drop the server's exit handlers, which would for instance remove folders that the server still uses.

    The standard library's handlers are registered again, for the run's own objects. The server's finalizers are
    marked and its child processes are forgotten, as `multiprocessing` does in a process that it forks.
    """
    atexit._clear()
    for inherited in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        inherited.atexit = False
    multiprocessing.process._children = set()  # type: ignore[attr-defined]
    atexit.register(logging.shutdown)
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = True  # type: ignore[attr-defined]
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]
