"""A code location of Dagster's own parts alone: a sensor that launches runs of a job that does nothing.

What a run costs under the same launcher without the queue. As many runs are launched as the file of `RUNS` says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

RUNS = "BENCHMARK_RUNS"
"""The variable that names a file with the number of runs to launch; nothing is launched while there is none."""


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job(executor_def=dg.in_process_executor)
def trivial() -> None:
    """One op."""
    nothing()


@dg.sensor(job=trivial, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def trivial_sensor() -> Iterator[dg.RunRequest]:
    """One for each key that Dagster does not know yet."""
    file = Path(os.environ[RUNS])
    number = int(file.read_text()) if file.exists() else 0
    for key in range(number):
        yield dg.RunRequest(run_key=str(key))


defs = dg.Definitions(jobs=[trivial], sensors=[trivial_sensor])
