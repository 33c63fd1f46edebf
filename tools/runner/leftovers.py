"""What a demo leaves when it is killed itself: found by a mark in the environment of everything that it started."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

MARK = "REPORTQUEUE_DEMO"
"""A variable that only a demo's processes have; its value is the data folder, which one demo at a time holds."""


def of_demo(data: Path) -> list[Any]:
    """The processes that a demo on this data has started, itself and PostgreSQL not included."""

    def is_marked(process: Any) -> bool:
        return bool(process.environ().get(MARK) == str(data))

    return _processes(is_marked)


def of_postgres(cluster: Path) -> list[Any]:
    """The PostgreSQL that runs on this cluster, or nothing; the server itself, not its sessions."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return []

    def is_server(process: Any) -> bool:
        return bool(process.pid == pid and process.name() == "postgres" and str(cluster) in process.cmdline())

    return _processes(is_server)


def end(processes: list[Any], *, ask: signal.Signals, seconds: float) -> None:
    """Ask each to end by a signal, and after `seconds` kill what is left."""
    for process in processes:
        _if_there(lambda one: one.send_signal(ask), process)
    _, left = psutil.wait_procs(processes, timeout=seconds)
    for process in left:
        _if_there(lambda one: one.kill(), process)
    psutil.wait_procs(left, timeout=1)


def _processes(wanted: Callable[[Any], bool]) -> list[Any]:
    return [process for process in psutil.process_iter() if _if_there(wanted, process)]


def _if_there(call: Callable[[Any], Any], process: Any) -> Any:
    """What the call says, or None for a process that has gone or is somebody else's."""
    try:
        return call(process)
    except (psutil.Error, OSError):
        return None
