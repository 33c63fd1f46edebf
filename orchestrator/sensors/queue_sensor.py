"""Pattern `queue`: sensors claim due reports and launch exactly one run for each.

There are several (lanes), because Dagster restarts a finished sensor only every 5 s: meanwhile another one waits.
"""

from dagster_reportqueue import queue_lanes
from orchestrator.jobs import batch_job, environment, report_job

database_queue_sensor, *further_lanes = queue_lanes(environment, report_job, batch_job)
