"""Dagster's default run coordinator, extended: it prepares the daemon for quick launches before the first run."""

from __future__ import annotations

import sys
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.run_coordinator.sync_in_memory_run_coordinator import SyncInMemoryRunCoordinator

from dagster_reportqueue.pooling import pool_connections
from dagster_reportqueue.warm.launcher import WarmRunLauncher


class WarmRunCoordinator(SyncInMemoryRunCoordinator):
    """Launches each run immediately, in the process that submits it; the launcher limits how many run at once.

    The daemon loads its coordinator when it starts, but its launcher only for the first run. So the coordinator starts
    the warm servers. It also makes the daemon keep its connections to Dagster's storage; without this, each launch
    would open half a dozen.
    """

    def register_instance(self, instance: DagsterInstance) -> None:
        """Called by Dagster in every process that loads an instance; only the daemon launches many runs."""
        super().register_instance(instance)
        if is_daemon(sys.argv[0]) and isinstance(instance.run_launcher, WarmRunLauncher):
            pool_connections(instance)
            instance.run_launcher.warm_up()


def is_daemon(program: str) -> bool:
    """Whether `program` (`sys.argv[0]`) is `dagster-daemon`, or the daemon that `dagster dev` starts."""
    path = Path(program)
    return path.name == "dagster-daemon" or path.parent.name == "_daemon"
