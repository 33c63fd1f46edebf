"""Child processes in groups of their own: started with a log, watched, and ended together, theirs included."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from project.runner.venv import ROOT


class ChildFailed(Exception):
    """A child could not start, or died; the message is one line, with the log's path."""


@dataclass
class Child:
    """One process group and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises `ChildFailed` if it has died."""
        code = self.process.poll()
        if code is not None:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise ChildFailed(f"{self.name} {how}; see {self.log}")

    def signal(self, number: signal.Signals) -> None:
        """To the whole group, which may outlive its leader."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def gone(self) -> bool:
        """Whether nothing of the group is left."""
        self.process.poll()  # reaps the leader: a zombie would count as alive
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Children:
    """All that was started; `stop()` ends it whatever state it is in."""

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Child:
        """Start a command with the project as its working directory. Raises `ChildFailed`."""
        path = self._logs / f"{name}.log"
        with path.open("ab") as log:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildFailed(f"{name} cannot be started: {error}") from None
        child = Child(name, process, path)
        self._children.append(child)
        return child

    def run(self, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        """Run a command to its end. Raises `ChildFailed` if it fails."""
        child = self.start(name, command, environment)
        if child.process.wait() != 0:
            child.check()
        self._children.remove(child)

    def check(self) -> None:
        """Raises `ChildFailed` if one has died."""
        for child in self._children:
            child.check()

    def wait_until(self, what: str, ready: Callable[[], bool], child: Child, timeout: float = 120) -> None:
        """Wait until `ready()`. Raises `ChildFailed` if a child dies or the time (seconds) is up."""
        until = time.monotonic() + timeout
        while not ready():
            self.check()
            if time.monotonic() > until:
                raise ChildFailed(f"{what} did not answer within {timeout:.0f} s; see {child.log}")
            time.sleep(0.2)

    def stop(self, children: Sequence[Child], seconds: float) -> None:
        """SIGTERM to these, and after `seconds` SIGKILL to what is left of them."""
        for child in children:
            child.signal(signal.SIGTERM)
        until = time.monotonic() + seconds
        while not all(child.gone() for child in children) and time.monotonic() < until:
            time.sleep(0.05)
        for child in children:
            child.signal(signal.SIGKILL)
            child.process.wait()
            self._children.remove(child)

    def stop_all(self, *, last: Sequence[Child], seconds: float) -> None:
        """End everything, `last` after all others: what others call on their way out."""
        final = [child for child in self._children if child in last]
        self.stop([child for child in self._children if child not in last], seconds)
        self.stop(final, seconds)
