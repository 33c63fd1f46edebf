"""The code location that Dagster loads: the jobs, and the sensors of REPORT_TRIGGER_PATTERN."""

from dagster_reportqueue import assemble
from orchestrator.jobs import batch_job, environment, report_job
from orchestrator.sensors.queue_sensor import database_queue_sensor, further_lanes
from orchestrator.sensors.report_sensor import report_cron_sensor
from orchestrator.sensors.smart_sensor import smart_cron_sensor
from orchestrator.sensors.webhook_sensor import webhook_trigger_sensor

defs = assemble(
    environment,
    jobs=[report_job, batch_job],
    sensors={
        "cron": [report_cron_sensor],
        "asset": [smart_cron_sensor],
        "polling": [webhook_trigger_sensor],
        "queue": [database_queue_sensor, *further_lanes],
    },
)
