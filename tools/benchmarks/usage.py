"""What an installation's processes have used: CPU seconds and memory, by kind of process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tools.runner import leftovers

KINDS = {
    "gunicorn": "web app",
    "enqueue_due_reports": "scheduler",
    "dagster-daemon": "daemon",
    "dagster-webserver": "Dagster's web server",
    "dagster_reportqueue.warm": "warm server",
    "grpc": "code server",
    "redis-server": "Redis",
}
"""A part of a process's command line, and what the process is."""
RUNS, POSTGRES, OTHERS = "runs", "PostgreSQL", "others"


def cpu_seconds(data: Path, cluster: Path) -> Counter[str]:
    """CPU seconds so far of the installation with this data folder, and of PostgreSQL.

    A process that has ended counts with the parent that waited for it. The warm launcher's server is the parent of the
    runs.
    """
    used: Counter[str] = Counter()
    for kind, process in _processes(data, cluster):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used[kind] += times.user + times.system
            used[RUNS if kind == KINDS["dagster_reportqueue.warm"] else kind] += (
                times.children_user + times.children_system
            )
    return used


def memory_bytes(data: Path, cluster: Path) -> Counter[str]:
    """Resident memory, of which a page that several processes share counts once (PSS)."""
    used: Counter[str] = Counter()
    for kind, process in _processes(data, cluster):
        with suppress(psutil.Error):
            used[kind] += process.memory_full_info().pss
    return used


def _processes(data: Path, cluster: Path) -> Iterator[tuple[str, Any]]:
    servers = leftovers.of_postgres(cluster)
    for server in servers:
        yield POSTGRES, server
        for session in server.children():
            yield POSTGRES, session
    launcher = None
    marked = leftovers.of_demo(data)
    kinds = {process.pid: _kind(process) for process in marked}
    launchers = {pid for pid, kind in kinds.items() if kind == KINDS["dagster_reportqueue.warm"]}
    for process in marked:
        with suppress(psutil.Error):
            # A forked run has the command line of the server that it was forked from.
            launcher = launchers & {parent.pid for parent in process.parents()}
            yield RUNS if launcher else kinds[process.pid], process


def _kind(process: Any) -> str:
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return next((kind for part, kind in KINDS.items() if part in command), OTHERS)
    return OTHERS
