"""Pattern `cron`: a sensor reads the schedules at an interval and evaluates their expressions itself."""

from dagster import DefaultSensorStatus

from dagster_reportqueue import build_report_cron_sensor
from orchestrator.jobs import environment, report_job

report_cron_sensor = build_report_cron_sensor(
    report_job,
    minimum_interval_seconds=environment.cron_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
)
