"""The launcher's side of a warm server: starts its process, sends it runs, and notices when it dies."""

from __future__ import annotations

import os
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
from dagster_reportqueue.warm.config import LOAD_SECONDS, REFUSED, SOCKET, ServerConfig
from dagster_reportqueue.warm.lost_runs import how_it_ended

ANSWER_SECONDS = LOAD_SECONDS + 20.0
"""How long a launch waits for the server's answer: the server may still be loading its code location."""
BACKLOG = 128
PREFIX = "reportqueue-warm-"
"""The beginning of the names of the servers' folders, in the folder for temporary files."""

OnDeath = Callable[[str, str, frozenset[str]], None]


class ServerProcess:
    """One server process. It runs until `retire()` is called, and then until its last run has ended."""

    def __init__(self, python: str, directory: str | None, config: ServerConfig, on_death: OnDeath) -> None:
        """Start it in `directory` and return at once; it loads its code location in the background.

        If it dies, `on_death` is called in a thread with its address tag, the reason, and the runs whose launch has
        failed already. Raises `OSError` if the process cannot be started.
        """
        remove_leftovers()
        # In the folder for temporary files: a socket's path may have at most about 100 characters.
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            path = str(folder / SOCKET)
            owner, owned = socket.socketpair()
            with socket.socket(socket.AF_UNIX) as listener, owned, config.open_file() as file:
                listener.bind(f"{path}.new")
                listener.listen(BACKLOG)
                # It has its name only once it accepts calls: a socket that does not is a leftover.
                os.rename(f"{path}.new", path)
                self._process = subprocess.Popen(  # noqa: S603
                    [
                        python,
                        "-m",
                        __package__,
                        str(folder),
                        str(file.fileno()),
                        str(listener.fileno()),
                        str(owned.fileno()),
                    ],
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(file.fileno(), listener.fileno(), owned.fileno()),
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._owner = owner
        self.address = Address.here(self._process.pid, path)
        self._unanswered: set[str] = set()
        threading.Thread(
            target=_wait,
            args=[self._process, folder, self.address, on_death, self._unanswered],
            name=f"warm-server-{self._process.pid}",
            daemon=True,
        ).start()

    def alive(self) -> bool:
        """Whether its process still runs."""
        return self._process.poll() is None

    def launch(self, run_id: str) -> dict[str, Any]:
        """Send it a run and return its answer. Raises `NotDelivered`, or `NoAnswer` if it may have received the run."""
        self._unanswered.add(run_id)
        try:
            answer = messages.ask(self.address.path, {"verb": "launch", "run_id": run_id}, seconds=ANSWER_SECONDS)
        except messages.NotDelivered:
            self._unanswered.discard(run_id)
            raise
        self._unanswered.discard(run_id)
        return answer

    def retire(self) -> None:
        """Tell it to take no more runs, and to end after its last run."""
        self._owner.close()


def remove_leftovers() -> None:
    """Remove the folders of servers that were killed together with the process that had started them."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{SOCKET}"):
        try:
            if path.lstat().st_uid != os.getuid():
                continue
            with socket.socket(socket.AF_UNIX) as question:
                question.settimeout(0)
                question.connect(str(path))
        except ConnectionRefusedError:
            shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:
            continue  # it is another server's, which is busy or has just ended


def _wait(
    process: subprocess.Popen[bytes], folder: Path, address: Address, on_death: OnDeath, unanswered: set[str]
) -> None:
    code = process.wait()
    shutil.rmtree(folder, ignore_errors=True)
    if code not in (0, REFUSED):
        reason = f"The warm server (pid {process.pid}) {how_it_ended(code)}, and its runs ended with it."
        on_death(address.tag(), reason, frozenset(unanswered))
