"""Dagster's sensor daemon, one tick at a time, with the code location of these tests.

As a program, `python -m tests.dagster_reportqueue.daemon SENSOR POINT`, it makes one tick of the instance in
DAGSTER_HOME and is killed at that point of it.
"""

import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import DagsterInstance
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.scheduler.instigation import InstigatorTick, SensorInstigatorData
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget, ModuleTarget, WorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration

MODULE = "tests.dagster_reportqueue.location"
ROOT = str(Path(__file__).parent.parent.parent)
IN_PROCESS = InProcessWorkspaceLoadTarget(
    InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name=MODULE, working_directory=ROOT), location_name=MODULE)
)
OWN_PROCESS = ModuleTarget(module_name=MODULE, attribute=None, working_directory=ROOT, location_name=MODULE)


POINTS = ["TICK_CREATED", "TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED"]
"""Where a tick can be made to die."""


class Crash(Exception):
    """What a tick dies of."""


class Daemon:
    """Ticks of one sensor."""

    def __init__(self, workspace: WorkspaceProcessContext, sensor: str) -> None:
        self.workspace = workspace
        self.instance = workspace.instance
        location = workspace.create_request_context().get_code_location(MODULE)
        self._sensor = location.get_repository("__repository__").get_sensor(sensor)
        self._now = time.time()
        if self.instance.get_instigator_state(self._sensor.get_remote_origin_id(), self._sensor.selector_id) is None:
            self.instance.start_sensor(self._sensor)

    def tick(self, crash: Mapping[str, Any] | None = None) -> InstigatorTick:
        """Let the daemon look at its sensors once, some seconds after it last did; the tick as it is stored."""
        self._now += 10
        flags = {self._sensor.name: dict(crash)} if crash else None
        with freeze_time(self._now):
            for _ in execute_sensor_iteration(
                self.workspace, logging.getLogger("daemon"), None, None, debug_crash_flags=flags
            ):
                pass
        return self.ticks()[0]

    def ticks(self) -> list[InstigatorTick]:
        """The newest first."""
        return list(self.instance.get_ticks(self._sensor.get_remote_origin_id(), self._sensor.selector_id))

    @property
    def cursor(self) -> str | None:
        """As it is stored for the next tick."""
        return self._data().cursor

    @cursor.setter
    def cursor(self, value: str | None) -> None:
        # As `dagster sensor cursor` and the UI do it.
        origin, selector = self._sensor.get_remote_origin_id(), self._sensor.selector_id
        state = self.instance.get_instigator_state(origin, selector)
        assert state is not None
        data = SensorInstigatorData(min_interval=self._data().min_interval, cursor=value)
        self.instance.update_instigator_state(state.with_data(data))

    def _data(self) -> SensorInstigatorData:
        state = self.instance.get_instigator_state(self._sensor.get_remote_origin_id(), self._sensor.selector_id)
        assert state is not None
        assert isinstance(state.instigator_data, SensorInstigatorData)
        return state.instigator_data


@contextmanager
def daemon(
    instance: DagsterInstance, sensor: str = "report_sensor", target: WorkspaceLoadTarget = IN_PROCESS
) -> Iterator[Daemon]:
    """A daemon of this instance."""
    with create_test_daemon_workspace_context(target, instance) as workspace:
        yield Daemon(workspace, sensor)


if __name__ == "__main__":
    with DagsterInstance.get() as stored, daemon(stored, sys.argv[1]) as dying:
        print("still alive:", dying.tick(crash={sys.argv[2]: signal.SIGKILL}))
