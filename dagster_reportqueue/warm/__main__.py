"""`python -m dagster_reportqueue.warm FOLDER LISTENER OWNER [LOADS]`: load the code location, then serve.

Started by `host.ServerHost`. LISTENER and OWNER are file descriptors: the socket that it answers on, and a connection
whose end tells it that whoever started it wants no more runs of it.
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

from dagster_reportqueue.warm import messages
from dagster_reportqueue.warm.code_version import Sources
from dagster_reportqueue.warm.config import LOAD_SECONDS, REFUSED, Setup
from dagster_reportqueue.warm.preload import WarmUpFailed, warm_up
from dagster_reportqueue.warm.server import Server
from dagster_reportqueue.warm.slots import Slots

MAX_LOADS = 3
SLOTS = "warm_runs"
"""A folder of the Dagster instance."""


def main(folder: Path, listener: int, owner: int, loads: int = 1) -> int:
    """The exit code. `loads` counts the processes in this one's place that have loaded the code, this one included."""
    began = time.time_ns()
    setup = Setup.read(folder)
    with socket.socket(fileno=listener) as listening, socket.socket(fileno=owner) as owning:
        try:
            instance = DagsterInstance.from_ref(deserialize_value(setup.instance_ref, InstanceRef))
            repository = deserialize_value(setup.repository_origin, RepositoryPythonOrigin)
            signal.signal(signal.SIGALRM, _too_long)
            signal.alarm(LOAD_SECONDS)
            warm_up(instance, repository, setup.job_name, setup.preload)
            signal.alarm(0)
            slots = Slots(Path(instance.root_directory) / SLOTS, setup.max_runs)
        except Exception as error:
            traceback.print_exc()
            _refuse(listening, "".join(traceback.format_exception(error)))
            return REFUSED
        sources = Sources.of_process()
        changed = sources.changed_since(began)
        if changed is not None and loads < MAX_LOADS:
            # Changed while it was loaded: nobody knows which half this process has.
            for kept in (listener, owner):
                os.set_inheritable(kept, True)
            again = [str(folder), str(listener), str(owner), str(loads + 1)]
            os.execv(sys.executable, [sys.executable, "-m", "dagster_reportqueue.warm", *again])  # noqa: S606
        if changed is not None:
            _refuse(
                listening,
                f"{changed} has changed each of {loads} times while the code was loaded. If the code writes it on "
                "import, let it write it elsewhere, or at another time.",
            )
            return REFUSED
        seconds = (setup.stop_seconds, setup.linger_seconds, setup.stalled_seconds, setup.audit_seconds)
        Server(instance, listening, owning, slots, sources, *seconds).serve()
    return 0


def _refuse(listening: socket.socket, reason: str) -> None:
    """Tell all who wait; whoever comes later finds nobody."""
    listening.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            connection, _ = listening.accept()
            messages.hear(connection)
            messages.answer(connection, {"failed": reason[-16_000:]})


def _too_long(number: int, frame: object) -> None:
    raise WarmUpFailed(f"The code was not loaded after {LOAD_SECONDS} s: does it wait for something on import?")


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end)  # until the server listens to signals itself
    code = 1
    try:
        code = main(Path(place), *map(int, numbers))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(code)
