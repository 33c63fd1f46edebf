"""The demo's code location: the demo's reports, made by runs that the sensors of REPORT_TRIGGER_PATTERN launch.

For your own, build a job around your own code with `build_report_job`, or a sensor around your own job with
`build_queue_sensor`; see the README.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from dagster import DefaultScheduleStatus, DefaultSensorStatus, Definitions, EnvVar, SensorDefinition

from orchestrator.assets import build_schedules_refresh
from orchestrator.batch_jobs import build_batch_job
from orchestrator.client import ReportQueueClient
from orchestrator.execution import LEASE_SECONDS, ReportRun
from orchestrator.jobs import build_report_job
from orchestrator.resources import ReportQueueResource
from orchestrator.sensors.queue_sensor import build_queue_sensor
from orchestrator.sensors.repair_sensors import build_repair_sensors
from orchestrator.sensors.report_sensor import build_report_cron_sensor
from orchestrator.sensors.smart_sensor import build_smart_cron_sensor
from orchestrator.sensors.webhook_sensor import build_webhook_sensor
from project import reports

DEFAULT_URL = "http://127.0.0.1:8000"
# The code location must load without them, for `dagster definitions validate`; a tick then says what is missing.
os.environ.setdefault("REPORTQUEUE_URL", DEFAULT_URL)
os.environ.setdefault("REPORTQUEUE_TOKEN", "not-set")


def make_report(run: ReportRun) -> Mapping[str, Any]:
    """Render one of the demo's reports and hand its page and table to the web app, which shows them."""
    run.progress("rendering")
    report = reports.render(run.report_id, run.modifier_id, run.params)
    run.progress("uploading")
    # Of this report alone: a run may make many.
    place = run.run_id if run.queue_id is None else f"{run.run_id}/{run.queue_id}"
    client = ReportQueueClient(os.environ["REPORTQUEUE_URL"], os.environ["REPORTQUEUE_TOKEN"])
    artifacts = {}
    try:
        for name, kind, content in (
            ("report.html", "text/html", report.html),
            ("report.csv", "text/csv", report.csv),
        ):
            answer = client.request(
                "PUT",
                f"/artifacts/{place}/{name}",
                data=content.encode(),
                headers={"Content-Type": f"{kind}; charset=utf-8"},
            )
            artifacts[name] = answer["url"]
    finally:
        client.close()
    return {"title": report.title, "rows": report.rows, "artifacts": artifacts}


lease_seconds = int(os.environ.get("REPORT_LEASE_SECONDS", LEASE_SECONDS))
process_report_job = build_report_job(make_report, lease_seconds=lease_seconds)
process_reports_job = build_batch_job(make_report, lease_seconds=lease_seconds)
QUEUE_LANES = ("database_queue_sensor", "database_queue_sensor_2")
"""Two sensors that wait for rows: Dagster's daemon comes back to one after 5 s at the earliest, and the other waits."""


def _sensors(pattern: str) -> Iterator[SensorDefinition]:
    running = DefaultSensorStatus.RUNNING
    match pattern:
        case "cron":
            seconds = int(os.environ.get("CRON_SENSOR_INTERVAL", "30"))
            yield build_report_cron_sensor(process_report_job, minimum_interval_seconds=seconds, default_status=running)
        case "asset":
            yield build_smart_cron_sensor(process_report_job, default_status=running)
        case "webhook":
            yield build_webhook_sensor(process_report_job, default_status=running)
        case "queue":
            for lane in QUEUE_LANES:
                yield build_queue_sensor(
                    process_report_job,
                    name=lane,
                    wait_seconds=20,
                    # Further rows wait in the queue, by their priority, and not as runs that Dagster holds already.
                    max_in_flight=int(os.environ.get("REPORT_MAX_IN_FLIGHT", "500")),
                    batch_job=process_reports_job,
                    batch_from=int(os.environ.get("REPORT_BATCH_FROM", "20")),
                    batch_size=int(os.environ.get("REPORT_BATCH_SIZE", "50")),
                    default_status=running,
                )
            yield from build_repair_sensors(consumers=QUEUE_LANES, default_status=running)
        case _:
            raise ValueError(
                f"REPORT_TRIGGER_PATTERN has {pattern!r}; it names one or several of cron, asset, webhook and queue, "
                "with commas between them."
            )


# Several while firings are handed over from one to another: the web app says whose they are.
patterns = [name.strip() for name in os.environ.get("REPORT_TRIGGER_PATTERN", "queue").split(",")]
schedules_asset, refresh_job, daily_refresh = build_schedules_refresh(
    default_status=DefaultScheduleStatus.RUNNING if "asset" in patterns else DefaultScheduleStatus.STOPPED
)
defs = Definitions(
    assets=[schedules_asset],
    jobs=[process_report_job, process_reports_job, refresh_job],
    schedules=[daily_refresh],
    sensors=[sensor for pattern in dict.fromkeys(patterns) for sensor in _sensors(pattern)],
    resources={"report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))},
)
