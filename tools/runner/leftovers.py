"""Finds and ends the processes that a killed demo has left, by a variable in their environment."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

MARK = "REPORTQUEUE_DEMO"
"""Only a demo's processes have this variable. Its value is the data folder, which one demo at a time uses."""


def of_demo(data: Path) -> list[Any]:
    """The processes that a demo on this data folder has started, without the demo itself and PostgreSQL."""

    def is_marked(process: Any) -> bool:
        return bool(process.environ().get(MARK) == str(data))

    return _processes(is_marked)


def of_postgres(cluster: Path) -> list[Any]:
    """The PostgreSQL server process of this cluster, without its sessions; empty if it does not run."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return []

    def is_server(process: Any) -> bool:
        return bool(process.pid == pid and process.name() == "postgres" and str(cluster) in process.cmdline())

    return _processes(is_server)


def end(processes: list[Any], *, ask: signal.Signals, seconds: float) -> None:
    """Send each the signal `ask`; after `seconds`, kill those that have not ended."""
    for process in processes:
        _if_there(lambda one: one.send_signal(ask), process)
    _, left = psutil.wait_procs(processes, timeout=seconds)
    for process in left:
        _if_there(lambda one: one.kill(), process)
    psutil.wait_procs(left, timeout=1)


def _processes(wanted: Callable[[Any], bool]) -> list[Any]:
    return [process for process in psutil.process_iter() if _if_there(wanted, process)]


def _if_there(call: Callable[[Any], Any], process: Any) -> Any:
    """Call it with the process; None if the process has ended or belongs to another user."""
    try:
        return call(process)
    except (psutil.Error, OSError):
        return None
