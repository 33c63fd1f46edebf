"""Run launchers that fail or die if their daemon life says so: one asks the warm parent for the run's worker, and the
others are the product's and Dagster's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any, Self

from dagster import DagsterRun
from dagster._config.config_schema import UserConfigSchema
from dagster._core.launcher.base import LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from dagster_reportqueue.warm.launcher import WarmRunLauncher
from tools.chaos import points
from tools.chaos.ledger import Ledger
from tools.chaos.link import ask

faults: list[str] = []
"""What the next launches of this process are to suffer, LAUNCH_FAILED or LAUNCHING; set by a daemon life."""


class WarmLauncher(RunLauncher, ConfigurableClass):
    """As the default launcher, which asks the code server for a process: the launch is over once it was asked."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Ask for a worker."""
        _suffer(context.dagster_run)
        with ask({"op": "run", "run": context.dagster_run.run_id}) as answer:
            if not answer.readline():
                raise RuntimeError("the warm parent is gone")

    def terminate(self, run_id: str) -> bool:
        """Nobody asks for it here."""
        return False

    def waits(self, run: DagsterRun) -> bool:
        """Nothing waits: there are as many workers as launches."""
        return False


class Faulty(RunLauncher):
    """Another launcher under the faults of a daemon life: `class ...(Faulty, TheLauncher)`."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch, or suffer."""
        _suffer(context.dagster_run)
        super().launch_run(context)


class FaultyWarmRunLauncher(Faulty, WarmRunLauncher):
    """The product's, under the same faults: each daemon life has a server of its own."""


def _suffer(run: DagsterRun) -> None:
    """The next fault of the daemon life, if there is one: raises an error, or kills this process."""
    if faults:
        fault = faults.pop(0)
        Ledger(os.environ["CHAOS_LEDGER"]).fault(fault, [_row(run)])
        if fault == points.LAUNCHING:
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("chaos: this launch fails")


def _row(run: DagsterRun) -> int:
    return int(run.tags.get("reportqueue/queue_id", 0))
