"""What a bad report does in the middle of its work, each under the name of its point."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from tools.chaos import points
from tools.chaos.ledger import Ledger

STAY_SECONDS = 600
"""How long something stays that nobody ends."""
_kept: list[object] = []


def commit(point: str, ledger: Ledger, facts: Mapping[str, Any]) -> None:
    """Write the misdeed to the ledger, then do it. Some do not return."""
    ledger.fault(point, [facts["row"]], run=facts["run"], pids=[os.getpid()] if point in points.DEADLY else [])
    if point in points.HANGING:
        ledger.write("stop", by=point, **facts)  # from here on it does nothing that could be done twice
    _MISDEEDS[point](ledger, facts)


def _keep_pool(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    pool = ThreadPoolExecutor(2)
    pool.submit(int).result()
    _kept.append(pool)


def _keep_thread(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    threading.Thread(target=time.sleep, args=[STAY_SECONDS], name="never-ends").start()


def _sleep_at_exit(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    atexit.register(time.sleep, STAY_SECONDS)


def _keep_child(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    child = subprocess.Popen(["sleep", str(STAY_SECONDS)])
    ledger.write("process", **{**facts, "pid": child.pid})
    _kept.append(child)


def _keep_daemon(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    """Fork twice, as a daemon does: the grandchild has another parent, a session of its own, and all open files."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            ledger.write("process", **{**facts, "pid": os.getpid()})
            time.sleep(STAY_SECONDS)
    finally:
        os._exit(0)


def _hang_with_lock(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    _mask_signals()
    ctypes.PyDLL(None).sleep(STAY_SECONDS)


def _hang_without_lock(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    _mask_signals()
    ctypes.CDLL(None).sleep(STAY_SECONDS)


def _mask_signals() -> None:
    # The sleep in C would end by one; what hangs in C often does not.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _segfault(ledger: Ledger, facts: Mapping[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def _exit(ledger: Ledger, facts: Mapping[str, Any]) -> NoReturn:
    os._exit(0)


def _send_itself(number: signal.Signals) -> Callable[[Ledger, Mapping[str, Any]], None]:
    def send(ledger: Ledger, facts: Mapping[str, Any]) -> None:
        os.kill(os.getpid(), number)
        time.sleep(1)  # a signal that is handled is handled within this

    return send


def _raise(error: BaseException) -> Callable[[Ledger, Mapping[str, Any]], None]:
    def raise_it(ledger: Ledger, facts: Mapping[str, Any]) -> NoReturn:
        raise error

    return raise_it


_MISDEEDS: dict[str, Callable[[Ledger, Mapping[str, Any]], None]] = {
    points.POOL_KEPT: _keep_pool,
    points.THREAD_KEPT: _keep_thread,
    points.ATEXIT_SLEEPS: _sleep_at_exit,
    points.CHILD_KEPT: _keep_child,
    points.DAEMON_KEPT: _keep_daemon,
    points.HANGS_WITH_LOCK: _hang_with_lock,
    points.HANGS_WITHOUT_LOCK: _hang_without_lock,
    points.FREEZES_ITSELF: _send_itself(signal.SIGSTOP),
    points.SEGFAULTS: _segfault,
    points.BATCH_SEGFAULTS: _segfault,
    points.EXITS: _exit,
    points.BATCH_EXITS: _exit,
    points.KILLS_ITSELF: _send_itself(signal.SIGKILL),
    points.TERMINATES_ITSELF: _send_itself(signal.SIGTERM),
    points.KEYBOARD_INTERRUPT: _raise(KeyboardInterrupt()),
    points.SYSTEM_EXIT: _raise(SystemExit(0)),
    points.CANCELLED_ERROR: _raise(asyncio.CancelledError()),
}
