"""Dagster's default run coordinator, which prepares the daemon for quick launches before the first run needs one."""

from __future__ import annotations

import sys
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.run_coordinator.sync_in_memory_run_coordinator import SyncInMemoryRunCoordinator

from dagster_reportqueue.warm.launcher import WarmRunLauncher
from dagster_reportqueue.warm.pooling import pool_connections


class WarmRunCoordinator(SyncInMemoryRunCoordinator):
    """Launches each run at once, where it is submitted; how many run at once is the launcher's to say.

    The daemon loads its coordinator when it starts, but its launcher only for the first run. So this has the warm
    servers started, and lets the daemon keep its connections to Dagster's storage: each launch opened half a dozen.
    """

    def register_instance(self, instance: DagsterInstance) -> None:
        """Called by Dagster in every process that loads an instance; only the daemon is going to launch many runs."""
        super().register_instance(instance)
        if is_daemon(sys.argv[0]) and isinstance(instance.run_launcher, WarmRunLauncher):
            pool_connections(instance)
            instance.run_launcher.warm_up()


def is_daemon(program: str) -> bool:
    """Whether `sys.argv[0]` is that of `dagster-daemon`, or of the daemon that `dagster dev` starts."""
    path = Path(program)
    return path.name == "dagster-daemon" or path.parent.name == "_daemon"
