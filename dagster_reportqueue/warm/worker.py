"""A process that the server has forked: from the fork to its end."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from dagster import DagsterInstance, DagsterRunStatus
from dagster._cli.api import _execute_run_command_body
from dagster._utils.interrupts import capture_interrupts

from dagster_reportqueue.warm.pooling import close_connections

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
FINISHED = b"."


@dataclass
class Forked:
    """The server's side of one. `line` is its end of a connection on which the process says that it has finished."""

    pid: int
    line: socket.socket

    def finished(self) -> bool:
        """Whether the process, which has ended, came to its end, and was not cut short by `os._exit` or a signal."""
        self.line.setblocking(False)
        with self.line, suppress(BlockingIOError, ConnectionError):
            return self.line.recv(1) == FINISHED
        return False

    def ask_to_end(self) -> None:
        """As the code server asks a run of the default launcher, which ends it in good order."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """The process, and those of its steps."""
        for kill in (os.killpg, os.kill):  # it may be so young that it has no group of its own yet
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)


def fork(act: Callable[[], None], *, leave: Callable[[], None]) -> Forked:
    """Fork a process that does `act` and ends. `leave` closes what of the server's it must not hold."""
    ours, theirs = socket.socketpair()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # A signal that comes before the handlers are in place waits: the server's own would be wrong.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            ours.close()
            _live(act, leave, theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    theirs.close()
    return Forked(pid, ours)


def run(instance: DagsterInstance, run_id: str) -> None:
    """What the process of a run does; as behind `dagster api execute_run`, by Dagster's own code."""
    with instance:
        if not _canceled(instance, run_id):
            _execute_run_command_body(run_id, instance, lambda event: None, set_exit_code_on_failure=False)
            _canceled(instance, run_id)  # asked for just before it began, so it did not begin
    close_connections(instance)


def _canceled(instance: DagsterInstance, run_id: str) -> bool:
    """Whether the run was asked to end before it began; it has then. Dagster's code leaves it, or fails it."""
    asked = instance.get_run_by_id(run_id)
    if asked is None or asked.status != DagsterRunStatus.CANCELING:
        return False
    instance.report_run_canceled(asked)
    return True


def _live(act: Callable[[], None], leave: Callable[[], None], line: socket.socket) -> NoReturn:
    code = 1
    try:
        atexit._clear()  # what is registered there belongs to the server: folders that others use, for instance
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.default_int_handler)
        leave()
        # Signals to the server's group (Ctrl-C in a terminal) reach a run once: by the server.
        os.setpgid(0, 0)
        # Started while signals are blocked, and so never the thread that gets one: they are to wake the main thread.
        threading.Thread(target=_die_with_the_server, args=[line], name="warm-line", daemon=True).start()
        _reseed()
        with capture_interrupts():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            act()
            line.send(FINISHED)
        _wait_for_threads()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_with_the_server(line: socket.socket) -> None:
    """Nobody could stop this process any more, nor would notice its end; so with the server it ends, whole group."""
    with suppress(OSError):
        line.recv(1)
    os.killpg(0, signal.SIGKILL)


def _reseed() -> None:
    # Python's own generator is reseeded after a fork; numpy's is not, and each report would draw the same numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
