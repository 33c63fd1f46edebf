"""Who makes the runs' processes, with what it needs and what can befall it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tools.chaos import points

if TYPE_CHECKING:
    from tools.chaos.system import System


class Engine:
    """The harness's own: the warm parent forks each run."""

    name = points.HARNESS
    slots = 4
    """Runs at work at once. Where frozen ones keep their places, there are more."""
    life_seconds = 8.0
    """The longest that a daemon's life waits for its fault: without rows, none of the later points is reached."""
    reaps = True
    """Whether the warm parent sees the runs' deaths."""
    launcher = "{module: tools.chaos.launcher, class: WarmLauncher}"
    """`run_launcher` in dagster.yaml."""

    def __init__(self, system: System) -> None:
        self.system = system

    def prepare(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Start what the warm parent's children need, and return further variables of theirs."""
        return {}

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the rest."""

    def close(self) -> None:
        """End what is not one of the system's parts."""

    def strike(self, rows: list[int]) -> None:
        """The next fault of the engine, while these rows are under way."""
        raise NotImplementedError

    def hold(self) -> None:
        """From now on no run begins: whatever is launched waits."""
        raise NotImplementedError

    def release(self) -> None:
        """Runs begin again."""
        raise NotImplementedError


class WarmEngine(Engine):
    """The product's warm launcher."""

    name = points.WARM
    slots = 8
    life_seconds = 30.0  # the code has to be loaded first
    reaps = False
    launcher = (
        "{module: tools.chaos.launcher, class: FaultyWarmRunLauncher, config: {"
        f"max_runs: {slots}, stop_seconds: {points.STOP_SECONDS}, linger_seconds: {points.LINGER_SECONDS}}}}}"
    )
