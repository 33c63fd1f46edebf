"""The demo's code location: the demo's reports, made by runs that the queue sensor launches.

For your own, build a job around your own code with `build_report_job`, or a sensor around your own job with
`build_queue_sensor`; see the README.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dagster import DefaultSensorStatus, Definitions, EnvVar

from orchestrator.client import ReportQueueClient
from orchestrator.execution import LEASE_SECONDS, ReportRun
from orchestrator.jobs import build_report_job
from orchestrator.resources import ReportQueueResource
from orchestrator.sensors.queue_sensor import build_queue_sensor
from orchestrator.sensors.repair_sensors import build_repair_sensors
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
    client = ReportQueueClient(os.environ["REPORTQUEUE_URL"], os.environ["REPORTQUEUE_TOKEN"])
    artifacts = {}
    try:
        for name, kind, content in (
            ("report.html", "text/html", report.html),
            ("report.csv", "text/csv", report.csv),
        ):
            answer = client.request(
                "PUT",
                f"/artifacts/{run.run_id}/{name}",
                data=content.encode(),
                headers={"Content-Type": f"{kind}; charset=utf-8"},
            )
            artifacts[name] = answer["url"]
    finally:
        client.close()
    return {"title": report.title, "rows": report.rows, "artifacts": artifacts}


process_report_job = build_report_job(
    make_report, lease_seconds=int(os.environ.get("REPORT_LEASE_SECONDS", LEASE_SECONDS))
)
database_queue_sensor = build_queue_sensor(
    process_report_job,
    wait_seconds=20,
    # Further rows wait in the queue, by their priority, and not as runs that Dagster holds already.
    max_in_flight=50,
    default_status=DefaultSensorStatus.RUNNING,
)

defs = Definitions(
    jobs=[process_report_job],
    sensors=[
        database_queue_sensor,
        *build_repair_sensors(default_status=DefaultSensorStatus.RUNNING),
    ],
    resources={"report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))},
)
