"""The chaos code location: the project's own sensor and job around a report that writes to the ledger.

Each consumer is a code location of its own: one daemon life serves one consumer, and its run keys are its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from dagster import DefaultSensorStatus, Definitions, EnvVar

from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.jobs import build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor
from dagster_reportqueue.sensors.repair_sensors import build_repair_sensors
from tests.chaos import points
from tests.chaos.ledger import Ledger

SLICE_SECONDS = 0.02
AFTER_WAKING_SECONDS = 2.0
"""The work left to do for a run that was frozen: enough for it to be told to stop."""


def make_report(run: ReportRun) -> Mapping[str, Any]:
    """Work for a while; the row's params say for how long, and what befalls which attempt in the middle."""
    if run.queue_id is None:
        return {}  # the warm-up
    ledger = Ledger(os.environ["CHAOS_LEDGER"])
    facts = {"row": run.queue_id, "run": run.run_id, "attempt": run.attempt, "pid": os.getpid()}
    fault = run.params.get("in_work", {}).get(str(run.attempt))
    outcome = "raise"
    ledger.write("begin", **facts)
    try:
        _work(run.params["seconds"] / 2)
        if fault == points.MIDDLE:
            ledger.fault(fault, [run.queue_id], pids=[os.getpid()])
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == points.ZOMBIE_WORK:
            ledger.fault(fault, [run.queue_id])
            ledger.write("stop", by="work", **facts)
            os.kill(os.getpid(), signal.SIGSTOP)
            _work(AFTER_WAKING_SECONDS)
        _work(run.params["seconds"] / 2)
        outcome = "ok"
    finally:
        ledger.write("end", outcome=outcome, **facts)
    return {"attempt": run.attempt}


def _work(seconds: float) -> None:
    # In slices: work that was frozen still has to be done afterwards, where one long sleep would just be over.
    for _ in range(max(1, round(seconds / SLICE_SECONDS))):
        time.sleep(SLICE_SECONDS)


report_job = build_report_job(make_report, name="chaos_report_job", lease_seconds=points.LEASE_SECONDS)


def _definitions(consumer: str) -> Definitions:
    sensor = build_queue_sensor(
        report_job, name=consumer, limit=2, max_in_flight=4, default_status=DefaultSensorStatus.RUNNING
    )
    repair = build_repair_sensors(
        consumers=[consumer], minimum_interval_seconds=5, default_status=DefaultSensorStatus.RUNNING
    )
    return Definitions(
        jobs=[report_job],
        sensors=[sensor, *(repair if consumer == "alpha" else ())],  # one consumer has to do without
        resources={
            "report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))
        },
    )


alpha, beta, gamma = map(_definitions, points.CONSUMERS)
