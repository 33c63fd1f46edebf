"""Pattern `polling`: a sensor polls for due reports, and marks them as processed once their runs are launched."""

from dagster import DefaultSensorStatus

from dagster_reportqueue import build_polling_sensor
from orchestrator.jobs import report_job

webhook_trigger_sensor = build_polling_sensor(report_job, default_status=DefaultSensorStatus.RUNNING)
