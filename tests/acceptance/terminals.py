"""Terminals in which a person pastes blocks: variables and folder stay, prompts are answered, servers run on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.acceptance.demos import wait_for

STOP_SECONDS = 90.0
"""How long a server may take to end after Ctrl-C."""
STRICT = "trap '[ $? = 0 ] || exit 1' DEBUG"
"""Before each command the shell ends if the last one has failed: with `set -e` it goes on after `false && true`."""


class Terminal:
    """One shell: what a block exports, and the folder that it changes to, hold for the next one."""

    def __init__(self, home: Path, variables: Mapping[str, str], answers: Mapping[str, str] | None = None) -> None:
        """Begins in `home` with these variables alone; `answers` are typed at prompts that match their keys."""
        self.home = home
        self._answers = answers or {}
        self._start = dict(variables)
        self._state = home / ".terminal"
        self.servers: list[Server] = []

    def run(self, text: str, seconds: float = 300) -> str:
        """What it prints. Raises `AssertionError` with that if a command fails, and at the time's end."""
        script = f"{self._restore()}{STRICT}\n{text}\n{self._keep()}"
        ours, theirs = pty.openpty()
        try:
            shell = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-c", script],
                cwd=self.home,
                env=self._start,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                # A program that asks for a password opens the terminal itself.
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
            os.close(theirs)
            printed = self._read(ours, shell, seconds)
            code = shell.wait()
        finally:
            os.close(ours)
        assert code == 0, f"{text}\n{printed}exit code {code}"
        return printed

    def serve(self, line: str, ready: Callable[[], object], seconds: float = 300) -> None:
        """Start a command that goes on until Ctrl-C, in a terminal of its own that begins with this one's variables."""
        server = Server(f"{self._restore()}exec {line}", line, self.home, self._start, len(self.servers))
        self.servers.append(server)

        def is_ready() -> object:
            assert server.process.poll() is None, f"{line} has ended:\n{server.printed}"
            return ready()

        wait_for(line, is_ready, seconds)

    def stop(self) -> None:
        """Ctrl-C in the terminal of each server, the last one first. Raises `AssertionError` if one does not end."""
        while self.servers:
            self.servers.pop().stop()

    def _restore(self) -> str:
        return f". '{self._state}'\n" if self._state.exists() else ""

    def _keep(self) -> str:
        new = f"'{self._state}.new'"  # the state before a command that fails stays
        return f"export -p >{new}\necho \"cd '$PWD'\" >>{new}\nmv {new} '{self._state}'\n"

    def _read(self, terminal: int, shell: subprocess.Popen[bytes], seconds: float) -> str:
        until = time.monotonic() + seconds
        printed = ""
        while True:
            if time.monotonic() > until:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
                raise AssertionError(f"not within {seconds:g} s:\n{printed}")
            if not select.select([terminal], [], [], 0.5)[0]:
                continue
            try:
                more = os.read(terminal, 65_536)
            except OSError:  # all of its programs have closed it
                return printed
            printed += more.decode(errors="replace").replace("\r\n", "\n")
            for prompt, answer in self._answers.items():
                if re.search(rf"^{prompt}\Z", printed, re.MULTILINE):
                    os.write(terminal, f"{answer}\n".encode())


class Server:
    """A command that goes on until Ctrl-C."""

    def __init__(self, script: str, line: str, home: Path, variables: Mapping[str, str], number: int) -> None:
        self.line = line
        self._log = home / f".server{number}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-c", script],
                cwd=home,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        """So far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """Ctrl-C; raises `AssertionError` if something of its group is left after `STOP_SECONDS`."""
        try:
            os.killpg(self.process.pid, signal.SIGINT)
            wait_for(f"the end of {self.line}", self._has_ended, STOP_SECONDS)
        except ProcessLookupError:
            self.process.wait()
        finally:
            if not self._has_ended():
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _has_ended(self) -> bool:
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False
