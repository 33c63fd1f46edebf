"""The sensor of the pattern `cron`: it reads the schedules at an interval and evaluates their expressions itself."""

from __future__ import annotations

from dagster import (
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from dagster_reportqueue.arguments import MAX_BATCH
from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.evaluation import CATCH_UP_SECONDS, Evaluator
from dagster_reportqueue.sensors.instances import with_kept_instance
from dagster_reportqueue.sensors.ticks import (
    AnyJob,
    check_job,
    check_jobs_of_tick,
    check_sensor,
    interval,
    queue_client,
)


def build_report_cron_sensor(
    job: AnyJob,
    *,
    name: str = "report_cron_sensor",
    limit: int = MAX_BATCH,
    catch_up_seconds: int = CATCH_UP_SECONDS,
    minimum_interval_seconds: int = 30,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
) -> SensorDefinition:
    """A sensor that launches `job` (from `build_report_job`) once for each firing of the schedules that it reads.

    Suitable for some hundred schedules. A tick asks the web app whether the schedules have changed, and fires what has
    become due since the last tick by the database's clock, `limit` (1 to 100) at once. After an outage it launches
    missed firings that are at most `catch_up_seconds` old. It fires only in the periods that `manage.py switch_pattern`
    assigns to `cron`. It needs the resource `report_queue`; the token's user needs the permissions to view schedules
    and to consume. Raises `ValueError` for a bound exceeded,
    `TypeError` for a wrong type.
    """
    check_job(job)
    check_sensor(name, default_status)
    evaluator = Evaluator(limit, catch_up_seconds)
    last: Plan | None = None

    @sensor(
        name=name,
        job=job,
        minimum_interval_seconds=interval(minimum_interval_seconds),
        default_status=default_status,
        description="Reads the schedules, evaluates their cron expressions, and launches one run for each firing.",
    )
    def report_cron_sensor(context: SensorEvaluationContext, report_queue: ReportQueueResource) -> SensorResult:
        check_jobs_of_tick(context, job.name)
        nonlocal last
        with queue_client(report_queue) as client:
            reading = client.plan("cron", known=last)
        last = reading.plan
        return evaluator.tick(context, reading, kept={})

    return with_kept_instance(report_cron_sensor)
