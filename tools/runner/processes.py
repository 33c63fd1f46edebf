"""Child processes in groups of their own: started with a log, watched, and ended together, theirs included.

Standard library only: the installation uses it too.
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
from tools.runner import stopping

POLL_SECONDS = 0.1
LAST_SECONDS = 0.5
"""For each signal after the first."""


class ChildFailed(Exception):
    """A child could not start, or died; the message is one line, with the log's path."""


@dataclass(eq=False)
class Child:
    """One process group and its log.

    A `passing` one is meant to end. `stop_signals` ask it to, each less politely; those of `stop_round` 0 go first.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    passing: bool = False
    stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,)
    stop_round: int = 0
    _asked: int = 0
    _gone: bool = False
    _killed: bool = False

    def check(self) -> None:
        """Raises `ChildFailed` if it has died, and not by `kill()`."""
        code = self.process.poll()
        if code is not None and not self._killed and not (self.passing and code == 0):
            how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
            raise ChildFailed(f"{self.name} {how}; see {self.log}")

    def kill(self, *, group: bool = False) -> None:
        """SIGKILL, to it alone or to its `group`; what is left of that is ended with all the others."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask_to_end(self) -> bool:
        """Send the next signal, the last is SIGKILL; False if there is nothing more to be done.

        It goes to the whole group, which may outlive its leader; once all of it is gone, its number may be another's.
        """
        if self.gone() or self._asked > len(self.stop_signals):
            return False
        number = (*self.stop_signals, signal.SIGKILL)[self._asked]
        self._asked += 1
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)
        return True

    def gone(self) -> bool:
        """Whether nothing of the group is left."""
        self.process.poll()  # reaps the leader: a zombie would count as alive
        if not self._gone:
            try:
                os.killpg(self.process.pid, 0)
            except (ProcessLookupError, PermissionError):  # macOS: not permitted, if only zombies are left
                self._gone = True
        return self._gone


class Children:
    """All that was started; `stop_all()` ends it whatever state it is in."""

    def __init__(self, logs: Path) -> None:
        """Raises `OSError` if the folder cannot be made."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._children: list[Child] = []

    def log(self, name: str) -> Path:
        """Where a child of this name writes."""
        return self._logs / f"{name}.log"

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        passing: bool = False,
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        stop_round: int = 0,
        user: int | None = None,
        keep_open: Sequence[int] = (),
    ) -> Child:
        """Start a command with the project as its working directory. Raises `ChildFailed`.

        `user` is the id of another user to run it as, for root; `keep_open` are file descriptors that it inherits.
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
        child = Child(name, process, path, passing, stop_signals, stop_round)
        self._children.append(child)
        return child

    def finish(self, child: Child) -> None:
        """Wait for a child to end well. Raises `ChildFailed` if it or another one does not, or `Stopped`."""
        while child.process.poll() is None:
            self.check()
            time.sleep(POLL_SECONDS)
        child.check()
        self._children.remove(child)

    def run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, keep_open: Sequence[int] = ()
    ) -> None:
        """Run a command to its end. Raises `ChildFailed` if it fails, or `Stopped`."""
        self.finish(self.start(name, command, environment, passing=True, keep_open=keep_open))

    def check(self) -> None:
        """Raises `ChildFailed` if one has died, or `Stopped`."""
        stopping.check()
        for child in self._children:
            child.check()

    def wait_until(self, what: str, ready: Callable[[], bool], child: Child, timeout: float = 120) -> None:
        """Wait until `ready()`. Raises `ChildFailed` if a child dies or the time (seconds) is up, or `Stopped`."""
        until = time.monotonic() + timeout
        while not ready():
            self.check()
            if time.monotonic() > until:
                raise ChildFailed(f"{what} did not answer within {timeout:.0f} s; see {child.log}")
            time.sleep(POLL_SECONDS)

    def stop_all(self, *seconds: float) -> None:
        """End everything: so many seconds for each round; what is left then gets its next signal, or SIGKILL."""
        for number, patience in enumerate(seconds):
            left = [child for child in self._children if child.stop_round == number]
            while left:
                left = [child for child in left if child.ask_to_end()]
                _wait_until_gone(left, patience)
                left = [child for child in left if not child.gone()]
                patience = LAST_SECONDS
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
