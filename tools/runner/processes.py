"""Child processes in their own process groups: started with a log, watched, and ended together with their children.

Uses the standard library only, because the installation uses it, too.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from project.environment import BASE_DIR
from tools.runner import stop_signals

POLL_SECONDS = 0.1
LAST_SECONDS = 0.5
"""How long to wait after each signal but the first."""


class ChildFailed(Exception):
    """A child could not be started, or died; the message is one line with the path of its log."""


@dataclass(eq=False)
class Child:
    """A process group and its log.

    A `passing` child may end by itself. `end_signals` are sent one after the other until it ends. Children of a lower
    `stop_round` are ended first.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    passing: bool = False
    end_signals: Sequence[signal.Signals] = (signal.SIGTERM,)
    stop_round: int = 0
    _asked: int = 0
    _gone: bool = False
    _killed: bool = False

    def check(self) -> None:
        """Raises `ChildFailed` if it has died, except by `kill()`."""
        code = self.process.poll()
        if code is not None and not self._killed and not (self.passing and code == 0):
            how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
            raise ChildFailed(f"{self.name} {how}; see {self.log}")

    def kill(self, *, group: bool = False) -> None:
        """Kill the process, or its `group`; the rest of the group is ended by `stop_all()`."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask_to_end(self) -> bool:
        """Send the next signal to the group, at last SIGKILL; returns False if the group is gone or had all signals.

        A group can outlive its leader. After the whole group has ended, its number may be reused.
        """
        if self.gone() or self._asked > len(self.end_signals):
            return False
        number = (*self.end_signals, signal.SIGKILL)[self._asked]
        self._asked += 1
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)
        return True

    def gone(self) -> bool:
        """Whether every process of the group has ended."""
        self.process.poll()  # reap the leader, as a zombie would count as alive
        if not self._gone:
            try:
                os.killpg(self.process.pid, 0)
            except (ProcessLookupError, PermissionError):  # macOS reports "not permitted" if only zombies are left
                self._gone = True
        return self._gone


class Children:
    """All started children; `stop_all()` ends them, in any state."""

    def __init__(self, logs: Path) -> None:
        """Raises `OSError` if the folder cannot be created."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._children: list[Child] = []

    def log(self, name: str) -> Path:
        """The log of a child with this name."""
        return self._logs / f"{name}.log"

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        passing: bool = False,
        end_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        stop_round: int = 0,
        user: int | None = None,
        keep_open: Sequence[int] = (),
    ) -> Child:
        """Start a command in the project's folder. Raises `ChildFailed`.

        `user` is the id of another user to run it, if we are root; `keep_open` are file descriptors that it inherits.
        """
        path = self.log(name)
        try:
            with path.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    cwd=BASE_DIR,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=keep_open,
                    user=user,
                    group=None if user is None else pwd.getpwuid(user).pw_gid,
                    extra_groups=None if user is None else [],
                )
        except OSError as error:
            raise ChildFailed(f"{name} cannot be started: {error}") from None
        child = Child(name, process, path, passing, end_signals, stop_round)
        self._children.append(child)
        return child

    def finish(self, child: Child) -> None:
        """Wait until a child has ended. Raises `ChildFailed` if it or another child fails, or `Stopped`."""
        while child.process.poll() is None:
            self.check()
            time.sleep(POLL_SECONDS)
        child.check()
        self._children.remove(child)

    def run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, keep_open: Sequence[int] = ()
    ) -> None:
        """Run a command and wait for its end. Raises `ChildFailed` if it fails, or `Stopped`."""
        self.finish(self.start(name, command, environment, passing=True, keep_open=keep_open))

    def check(self) -> None:
        """Raises `ChildFailed` if one has died, or `Stopped`."""
        stop_signals.check()
        for child in self._children:
            child.check()

    def wait_until(self, what: str, ready: Callable[[], bool], child: Child, timeout: float = 120) -> None:
        """Wait until `ready()`. Raises `ChildFailed` if a child dies or after `timeout` seconds, or `Stopped`."""
        until = time.monotonic() + timeout
        while not ready():
            self.check()
            if time.monotonic() > until:
                raise ChildFailed(f"{what} did not answer within {timeout:.0f} s; see {child.log}")
            time.sleep(POLL_SECONDS)

    def stop_all(self, *seconds: float) -> None:
        """End all children in rounds of so many seconds; the rest get their next signals, at last SIGKILL."""
        for number, timeout in enumerate(seconds):
            left = [child for child in self._children if child.stop_round == number]
            while left:
                left = [child for child in left if child.ask_to_end()]
                _wait_until_gone(left, timeout)
                left = [child for child in left if not child.gone()]
                timeout = LAST_SECONDS
        self._children.clear()


def _wait_until_gone(children: Sequence[Child], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not all(child.gone() for child in children) and time.monotonic() < until:
        time.sleep(0.05)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
