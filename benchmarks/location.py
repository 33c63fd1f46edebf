"""The product's code location for benchmarks: the demo's sensors and launcher, around a report that takes no time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dagster import DefaultSensorStatus, Definitions, EnvVar

from benchmarks import record
from orchestrator.batch_jobs import build_batch_job
from orchestrator.execution import ReportRun
from orchestrator.jobs import build_report_job
from orchestrator.resources import ReportQueueResource
from orchestrator.sensors.queue_sensor import build_queue_sensor
from orchestrator.sensors.repair_sensors import build_repair_sensors

ONE_BY_ONE = "BENCHMARK_ONE_BY_ONE"
"""A variable: set, every report has a run of its own."""
LANES = ("lane_1", "lane_2")


def make_report(run: ReportRun) -> Mapping[str, Any]:
    """Write down that it was made."""
    if run.queue_id is not None:  # the launcher's warm-up has none
        record.write(run.queue_id, attempt=run.attempt, run=run.run_id)
    return {"rows": 1}


report_job = build_report_job(make_report)
batch_job = build_batch_job(make_report)
defs = Definitions(
    jobs=[report_job, batch_job],
    sensors=[
        *(
            build_queue_sensor(
                report_job,
                name=lane,
                wait_seconds=20,
                max_in_flight=500,
                batch_job=None if os.environ.get(ONE_BY_ONE) else batch_job,
                default_status=DefaultSensorStatus.RUNNING,
            )
            for lane in LANES
        ),
        *build_repair_sensors(consumers=LANES, default_status=DefaultSensorStatus.RUNNING),
    ],
    resources={"report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))},
)
