"""Pattern `asset`: a sensor evaluates the schedules that an asset holds, and reads them again when they change."""

from dagster import DefaultSensorStatus

from dagster_reportqueue import build_smart_cron_sensor
from orchestrator.jobs import report_job

smart_cron_sensor = build_smart_cron_sensor(report_job, default_status=DefaultSensorStatus.RUNNING)
