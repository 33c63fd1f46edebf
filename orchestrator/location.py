"""A code location around one's own report code: its job, and the sensors of REPORT_TRIGGER_PATTERN."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from dagster import DefaultScheduleStatus, DefaultSensorStatus, Definitions, EnvVar, JobDefinition, SensorDefinition

from orchestrator.assets import build_schedules_refresh
from orchestrator.batch_jobs import build_batch_job
from orchestrator.execution import LEASE_SECONDS, Work
from orchestrator.jobs import build_report_job
from orchestrator.resources import ReportQueueResource
from orchestrator.sensors.queue_sensor import build_queue_lanes
from orchestrator.sensors.repair_sensors import build_repair_sensors
from orchestrator.sensors.report_sensor import build_report_cron_sensor
from orchestrator.sensors.smart_sensor import build_smart_cron_sensor
from orchestrator.sensors.webhook_sensor import build_webhook_sensor

DEFAULT_URL = "http://127.0.0.1:8000"


def build_definitions(work: Work) -> Definitions:
    """Everything for reports that `work` makes, as the environment says (the README lists the variables).

    The sensors are those of REPORT_TRIGGER_PATTERN: one or several of `cron`, `asset`, `webhook` and `queue` (the
    default), with commas between them. Raises `ValueError` for another name.
    """
    # The code location must load without them, for `dagster definitions validate`; a tick then says what is missing.
    os.environ.setdefault("REPORTQUEUE_URL", DEFAULT_URL)
    os.environ.setdefault("REPORTQUEUE_TOKEN", "not-set")
    lease_seconds = int(os.environ.get("REPORT_LEASE_SECONDS", LEASE_SECONDS))
    job = build_report_job(work, lease_seconds=lease_seconds)
    batch_job = build_batch_job(work, lease_seconds=lease_seconds)
    # Several while firings are handed over from one to another: the web app says whose they are.
    patterns = [name.strip() for name in os.environ.get("REPORT_TRIGGER_PATTERN", "queue").split(",")]
    sensors = {pattern: list(_sensors(pattern, job, batch_job)) for pattern in patterns}
    asset, refresh_job, daily_refresh = build_schedules_refresh(
        default_status=DefaultScheduleStatus.RUNNING if "asset" in patterns else DefaultScheduleStatus.STOPPED
    )
    return Definitions(
        assets=[asset],
        jobs=[job, batch_job, refresh_job],
        schedules=[daily_refresh],
        sensors=[
            *(sensor for of_pattern in sensors.values() for sensor in of_pattern),
            *_repair_sensors(patterns, [lane.name for lane in sensors.get("queue", [])]),
        ],
        resources={
            "report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))
        },
    )


def _sensors(pattern: str, job: JobDefinition, batch_job: JobDefinition) -> Iterator[SensorDefinition]:
    running = DefaultSensorStatus.RUNNING
    match pattern:
        case "cron":
            seconds = int(os.environ.get("CRON_SENSOR_INTERVAL", "30"))
            yield build_report_cron_sensor(job, minimum_interval_seconds=seconds, default_status=running)
        case "asset":
            yield build_smart_cron_sensor(job, default_status=running)
        case "webhook":
            yield build_webhook_sensor(job, default_status=running)
        case "queue":
            size = int(os.environ.get("REPORT_BATCH_SIZE", "50"))
            yield from build_queue_lanes(
                job,
                lanes=int(os.environ.get("REPORT_LANES", "3")),
                # Further rows wait in the queue, by their priority, and not as runs that Dagster holds already.
                max_in_flight=int(os.environ.get("REPORT_MAX_IN_FLIGHT", "500")),
                batch_job=batch_job if size > 1 else None,
                batch_from=int(os.environ.get("REPORT_BATCH_FROM", "20")),
                batch_size=size,
                default_status=running,
            )
        case _:
            raise ValueError(
                f"REPORT_TRIGGER_PATTERN has {pattern!r}; it names one or several of cron, asset, webhook and queue, "
                "with commas between them."
            )


def _repair_sensors(patterns: Collection[str], consumers: Collection[str]) -> list[SensorDefinition]:
    """None for polling alone: it does not follow its runs."""
    if not {"cron", "asset", "queue"}.intersection(patterns):
        return []
    return build_repair_sensors(consumers=consumers, default_status=DefaultSensorStatus.RUNNING)
