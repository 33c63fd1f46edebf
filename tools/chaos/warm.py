"""The warm parent: imports Dagster and the code location once, then forks a child for whoever asks.

Started with `python -m tools.chaos.warm`, in the environment of the system. It stays single-threaded and opens no
connection to anything but its own socket. Runs wait here while `CHAOS_WORKERS` of them are at work.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tools.chaos import lives
from tools.chaos.ledger import Ledger

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.5


@dataclass
class Child:
    """A forked process, and who wants to hear of its end."""

    request: Mapping[str, Any]
    listener: socket.socket | None
    stopped: bool = False


class WarmParent:
    """Forks, and reaps."""

    def __init__(self, path: str, ledger: Ledger, workers: int) -> None:
        self._ledger = ledger
        self._workers = workers
        self._children: dict[int, Child] = {}
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(path)
        self._server.listen(64)
        self._parent = os.getppid()

    def serve(self) -> None:
        """Until the harness ends it, or has ended itself."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        selector = selectors.DefaultSelector()
        selector.register(self._server, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while os.getppid() == self._parent:
            for key, _ in selector.select(LOOK_SECONDS):
                if key.fileobj is self._server:
                    self._accept()
                else:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
            self._reap()
            self._start_runs()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _accept(self) -> None:
        connection, _ = self._server.accept()
        connection.settimeout(5)
        try:
            with connection.makefile("rb") as file:
                request = json.loads(file.readline())
        except (OSError, ValueError):  # killed while it asked
            connection.close()
            return
        if request["op"] == "run":
            self._waiting.append(request)
            _say(connection, {"accepted": True})
            connection.close()
        else:
            pid = self._fork(request, connection)
            _say(connection, {"pid": pid})

    def _start_runs(self) -> None:
        def busy() -> int:
            return sum(1 for child in self._children.values() if child.request["op"] == "run" and not child.stopped)

        while self._waiting and busy() < self._workers:
            self._fork(self._waiting.popleft(), None)

    def _fork(self, request: Mapping[str, Any], listener: socket.socket | None) -> int:
        pid = os.fork()
        if pid == 0:
            self._be(request, listener)
        self._children[pid] = Child(request, listener)
        return pid

    def _be(self, request: Mapping[str, Any], listener: socket.socket | None) -> NoReturn:
        code = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._server.close()
            for other in [child.listener for child in self._children.values()] + [listener]:
                if other is not None:
                    other.close()
            random.seed()  # or every child has the same jitter
            lives.LIVES[request["op"]](request)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                self._children[pid].stopped = os.WIFSTOPPED(status)
                continue
            child = self._children.pop(pid)
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            facts = {"op": child.request["op"], "run": child.request.get("run"), "signal": number}
            self._ledger.write("death", pid=pid, **facts, cpu=round(used.ru_utime + used.ru_stime, 2))
            if child.listener is not None:
                _say(child.listener, {"signal": number, "code": 0 if number else os.WEXITSTATUS(status)})
                child.listener.close()


def _say(connection: socket.socket, what: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # whoever asked may have been killed since
        connection.sendall(json.dumps(what).encode() + b"\n")


def main() -> None:
    """Warm up, then serve."""
    lives.warm_up()
    tasks = os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ["1"]
    if threading.active_count() > 1 or len(tasks) > 1:
        raise RuntimeError(f"not single-threaded, so not to be forked: {threading.enumerate()} {tasks}")
    gc.collect()
    gc.freeze()  # what is shared with the children stays shared
    path = os.environ["CHAOS_WARM"]
    WarmParent(path, Ledger(os.environ["CHAOS_LEDGER"]), int(os.environ["CHAOS_WORKERS"])).serve()


if __name__ == "__main__":
    main()
