"""The launcher's side of a warm server: it starts one, asks it, and notices when it dies."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dagster_reportqueue.warm import messages
from dagster_reportqueue.warm.address import Address
from dagster_reportqueue.warm.config import LOAD_SECONDS, REFUSED, SOCKET, Setup
from dagster_reportqueue.warm.lost_runs import how_it_ended

ANSWER_SECONDS = LOAD_SECONDS + 20.0
"""How long a launch waits for a server, which may be loading its code location."""
BACKLOG = 128

Mourner = Callable[[str, str, frozenset[str]], None]


class ServerHost:
    """One server process. It lives as long as this object is not told to `retire()`, and then until its runs end."""

    def __init__(self, python: str, directory: str | None, setup: Setup, mourner: Mourner) -> None:
        """Start it, in the working directory given, and return at once: it loads its code location meanwhile.

        When it dies, `mourner` is called in a thread, with its address as a tag, with the reason, and with the runs
        whose launch has failed for it already. Raises `OSError` if it cannot be started.
        """
        # A short path: that of a socket may have 100 characters.
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        try:
            setup.write(folder)
            path = str(folder / SOCKET)
            owner, owned = socket.socketpair()
            with socket.socket(socket.AF_UNIX) as listener, owned:
                listener.bind(path)
                listener.listen(BACKLOG)
                self._process = subprocess.Popen(  # noqa: S603
                    [
                        python,
                        "-m",
                        __package__,
                        str(folder),
                        str(listener.fileno()),
                        str(owned.fileno()),
                    ],
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(listener.fileno(), owned.fileno()),
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._owner = owner
        self.address = Address.here(self._process.pid, path)
        self._unanswered: set[str] = set()
        threading.Thread(
            target=_wait,
            args=[self._process, folder, self.address, mourner, self._unanswered],
            name=f"warm-server-{self._process.pid}",
            daemon=True,
        ).start()

    def alive(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    def launch(self, run_id: str) -> dict[str, Any]:
        """What it says to a run. Raises `NotDelivered`; or `NoAnswer`, and nobody knows whether it heard of the run."""
        self._unanswered.add(run_id)
        try:
            said = messages.ask(self.address.path, {"verb": "launch", "run_id": run_id}, seconds=ANSWER_SECONDS)
        except messages.NotDelivered:
            self._unanswered.discard(run_id)
            raise
        self._unanswered.discard(run_id)
        return said

    def retire(self) -> None:
        """It takes no more runs, and ends once those that it has are done."""
        self._owner.close()


def _wait(
    process: subprocess.Popen[bytes], folder: Path, address: Address, mourner: Mourner, unanswered: set[str]
) -> None:
    code = process.wait()
    shutil.rmtree(folder, ignore_errors=True)
    if code not in (0, REFUSED):
        reason = f"The warm server (pid {process.pid}) {how_it_ended(code)}, and its runs ended with it."
        mourner(address.tag(), reason, frozenset(unanswered))
