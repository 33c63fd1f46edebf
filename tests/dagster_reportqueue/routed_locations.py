"""Two code locations of two teams on one queue, each with a route of its own."""

from dagster import DefaultSensorStatus, Definitions, EnvVar

from dagster_reportqueue.jobs import build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor


def _of(route: str) -> Definitions:
    job = build_report_job(lambda run: {"made_by": route, "name": run.report_name}, name=f"{route}_job")
    sensor = build_queue_sensor(job, name=f"{route}_sensor", routes=[route], default_status=DefaultSensorStatus.RUNNING)
    queue = ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))
    return Definitions(jobs=[job], sensors=[sensor], resources={"report_queue": queue})


finance, operations = _of("finance"), _of("operations")
