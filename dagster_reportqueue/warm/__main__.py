"""`python -m dagster_reportqueue.warm FOLDER CONFIG LISTENER OWNER [LOADS]`: load the code location, then serve.

`server_process.ServerProcess` starts it. CONFIG, LISTENER and OWNER are file descriptors: the file with its
configuration, the socket on which it answers, and a connection to the process that started it. When that connection is
closed, the server takes no more runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import RepositoryPythonOrigin
from dagster._serdes import deserialize_value

from dagster_reportqueue.code_version import Sources
from dagster_reportqueue.preload import WarmUpFailed, warm_up
from dagster_reportqueue.warm import messages
from dagster_reportqueue.warm.config import LOAD_SECONDS, REFUSED, ServerConfig
from dagster_reportqueue.warm.server import Server
from dagster_reportqueue.warm.slots import Slots

MAX_LOADS = 3
SLOTS = "warm_runs"
"""A folder of the Dagster instance."""


def main(folder: Path, settings: int, listener: int, owner: int, loads: int = 1) -> int:
    """Load the code and serve; return the exit code. `loads` counts the loads so far, this one included."""
    began = time.time_ns()
    config = ServerConfig.read(settings)
    with socket.socket(fileno=listener) as listening, socket.socket(fileno=owner) as owning:
        try:
            instance = DagsterInstance.from_ref(deserialize_value(config.instance_ref, InstanceRef))
            repository = deserialize_value(config.repository_origin, RepositoryPythonOrigin)
            signal.signal(signal.SIGALRM, _too_long)
            signal.alarm(LOAD_SECONDS)
            warm_up(instance, repository, config.job_name, config.preload)
            signal.alarm(0)
            slots = Slots(Path(instance.root_directory) / SLOTS, config.max_runs)
        except Exception as error:
            traceback.print_exc()
            _refuse(listening, "".join(traceback.format_exception(error)))
            return REFUSED
        sources = Sources.of_process()
        changed = sources.changed_since(began)
        if changed is not None and loads < MAX_LOADS:
            # The code changed while it was loaded: this process may have a mixture of old and new. Load it again.
            for kept in (settings, listener, owner):
                os.set_inheritable(kept, True)
            again = [str(folder), str(settings), str(listener), str(owner), str(loads + 1)]
            os.execv(sys.executable, [sys.executable, "-m", "dagster_reportqueue.warm", *again])  # noqa: S606
        if changed is not None:
            _refuse(
                listening,
                f"{changed} has changed each of {loads} times while the code was loaded. If the code writes it on "
                "import, let it write it elsewhere, or at another time.",
            )
            return REFUSED
        os.close(settings)
        Server(instance, listening, owning, slots, sources, config).serve()
    return 0


def _refuse(listening: socket.socket, reason: str) -> None:
    """Answer all launches that wait; a later launch finds no server."""
    listening.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            connection, _ = listening.accept()
            messages.receive(connection)
            messages.answer(connection, {"failed": reason[-16_000:]})


def _too_long(number: int, frame: object) -> None:
    raise WarmUpFailed(f"The code was not loaded after {LOAD_SECONDS} s: does it wait for something on import?")


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end)  # until the server has its own handlers
    code = 1
    try:
        code = main(Path(place), *map(int, numbers))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(code)
