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
from dagster_reportqueue.jobs import build_batch_job, build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor
from dagster_reportqueue.sensors.repair_sensors import build_repair_sensors
from tools.chaos import meetings, misdeeds, points
from tools.chaos.ledger import Ledger

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
        if bad := run.params.get("bad"):
            misdeeds.commit(bad, ledger, facts)
        if meeting := run.params.get("meeting"):
            ledger.write("met", everybody=meetings.attend(meeting, run.queue_id), **facts)
        _work(run.params["seconds"] / 2)
        outcome = "ok"
    finally:
        ledger.write("end", outcome=outcome, **facts)
    return {"attempt": run.attempt}


def _work(seconds: float) -> None:
    # In slices: work that was frozen still has to be done afterwards, where one long sleep would just be over.
    for _ in range(max(1, round(seconds / SLICE_SECONDS))):
        time.sleep(min(seconds, SLICE_SECONDS))


report_job = build_report_job(make_report, name="chaos_report_job", lease_seconds=points.LEASE_SECONDS)
batch_job = build_batch_job(make_report, name="chaos_batch_job", lease_seconds=points.LEASE_SECONDS)


def _definitions(consumer: str) -> Definitions:
    batches: dict[str, Any] = {"batch_job": batch_job, "batch_from": 2, "batch_size": 50, "max_in_flight": 100}
    options = batches if consumer == points.BATCH_CONSUMER else {"max_in_flight": 4}
    sensor = build_queue_sensor(
        report_job, name=consumer, limit=2, default_status=DefaultSensorStatus.RUNNING, **options
    )
    repair = build_repair_sensors(
        consumers=[consumer], minimum_interval_seconds=5, default_status=DefaultSensorStatus.RUNNING
    )
    repaired = consumer in (points.REPAIRED_CONSUMER, points.BATCH_CONSUMER)  # the others have to do without
    return Definitions(
        jobs=[report_job, batch_job],
        sensors=[sensor, *(repair if repaired else ())],
        resources={
            "report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))
        },
    )


alpha, beta, gamma, delta = map(_definitions, (*points.CONSUMERS, points.BATCH_CONSUMER))
