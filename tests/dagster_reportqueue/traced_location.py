"""A code location whose report has a span of its own."""

from dagster import Definitions, EnvVar
from opentelemetry import trace

from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.jobs import build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor


def make(run: ReportRun) -> None:
    """Its last line is a span."""
    if run.params.get("do") == "raise":
        raise ZeroDivisionError("a secret")
    with trace.get_tracer("report").start_as_current_span("the last line"):
        pass


report_job = build_report_job(make, name="report_job", lease_seconds=5)
report_sensor = build_queue_sensor(report_job, name="report_sensor")
defs = Definitions(
    jobs=[report_job],
    sensors=[report_sensor],
    resources={"report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))},
)
