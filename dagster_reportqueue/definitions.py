"""Builds a complete code location from your report code: the jobs, and the sensors of REPORT_TRIGGER_PATTERN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagster import DefaultScheduleStatus, DefaultSensorStatus, Definitions, EnvVar, JobDefinition, SensorDefinition

from dagster_reportqueue.arguments import A_JOB, JOBS, check_list, check_type, refusal
from dagster_reportqueue.assets import build_schedules_refresh
from dagster_reportqueue.environment import PATTERNS, Environment
from dagster_reportqueue.execution.report import Work
from dagster_reportqueue.jobs import build_batch_job, build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors import consumers
from dagster_reportqueue.sensors.polling_sensor import build_polling_sensor
from dagster_reportqueue.sensors.queue_sensor import build_queue_lanes
from dagster_reportqueue.sensors.repair_sensors import build_repair_sensors
from dagster_reportqueue.sensors.report_sensor import build_report_cron_sensor
from dagster_reportqueue.sensors.smart_sensor import build_smart_cron_sensor

RUNNING = DefaultSensorStatus.RUNNING


def build_definitions(work: Work) -> Definitions:
    """The code location for reports that `work` makes; configured by the environment (see docs/settings.md).

    Raises `ValueError` that names an invalid variable, `TypeError` if `work` is no function.
    """
    return define(work, Environment.read())


def define(work: Work, environment: Environment) -> Definitions:
    """The code location for reports that `work` makes."""
    job = build_report_job(work, lease_seconds=environment.lease_seconds)
    batch_job = build_batch_job(work, lease_seconds=environment.lease_seconds)
    return assemble(
        environment,
        jobs=[job, batch_job],
        sensors={
            "cron": [
                build_report_cron_sensor(
                    job, minimum_interval_seconds=environment.cron_interval_seconds, default_status=RUNNING
                )
            ],
            "asset": [build_smart_cron_sensor(job, default_status=RUNNING)],
            "polling": [build_polling_sensor(job, default_status=RUNNING)],
            "queue": queue_lanes(environment, job, batch_job),
        },
    )


def queue_lanes(
    environment: Environment, job: JobDefinition, batch_job: JobDefinition, *, name: str = consumers.DEFAULT
) -> list[SensorDefinition]:
    """The sensors of the pattern `queue`, configured by the environment. Raises as `build_queue_sensor`."""
    check_type("environment", environment, Environment, "an Environment")
    return build_queue_lanes(
        job,
        name=name,
        consumer=environment.consumer,
        lanes=environment.lanes,
        max_in_flight=environment.max_in_flight,
        max_unstarted=environment.max_unstarted,
        routes=environment.routes,
        batch_job=batch_job if environment.batch_size > 1 else None,
        batch_from=environment.batch_from,
        batch_size=environment.batch_size,
        batch_runs=environment.batch_runs,
        default_status=RUNNING,
    )


def assemble(
    environment: Environment, *, jobs: Sequence[JobDefinition], sensors: Mapping[str, Sequence[SensorDefinition]]
) -> Definitions:
    """Combine jobs and sensors into a code location; `sensors` holds the sensors of each pattern.

    Only the sensors of the environment's patterns are used. Added are the repair sensors, the asset of the schedules,
    and the resource `report_queue`. Raises `ValueError` if a pattern of the environment has no sensors, or for an
    unknown pattern; `TypeError` for a value of a wrong type.
    """
    check_type("environment", environment, Environment, "an Environment")
    check_list("jobs", jobs, JOBS, A_JOB)
    check_type("sensors", sensors, Mapping, "a mapping from patterns to their sensors")
    for pattern, some in sensors.items():
        if pattern not in PATTERNS:
            raise ValueError(refusal("A pattern in sensors", f"one of {', '.join(PATTERNS)}", pattern))
        check_list(f"sensors[{pattern!r}]", some, SensorDefinition, "a sensor of Dagster")
    for pattern in environment.patterns:
        if not sensors.get(pattern):
            raise ValueError(f"sensors has none for the pattern {pattern}, which the environment names.")
    patterns = environment.patterns
    asset, refresh_job, daily_refresh = build_schedules_refresh(
        default_status=DefaultScheduleStatus.RUNNING if "asset" in patterns else DefaultScheduleStatus.STOPPED
    )
    # The pattern `polling` does not follow its runs. If it is the only one, there is nothing to repair.
    repair = build_repair_sensors(default_status=RUNNING) if set(patterns) != {"polling"} else []
    return Definitions(
        assets=[asset],
        jobs=[*jobs, refresh_job],
        schedules=[daily_refresh],
        sensors=[*(sensor for pattern in patterns for sensor in sensors[pattern]), *repair],
        resources={
            "report_queue": ReportQueueResource(url=EnvVar("REPORTQUEUE_URL"), token=EnvVar("REPORTQUEUE_TOKEN"))
        },
    )
