"""Without the product: a sensor that reads new rows every second, and Dagster's default launcher."""

import os

import psycopg
from dagster import (
    DefaultSensorStatus,
    Definitions,
    OpExecutionContext,
    RunRequest,
    SensorEvaluationContext,
    SensorResult,
    in_process_executor,
    job,
    op,
    sensor,
)

from tools.benchmarks import record

TAG = "row"
YAML = """\
storage: {postgres: {postgres_url: {env: DAGSTER_DATABASE_URL}}}
telemetry: {enabled: false}
"""
"""Everything else is Dagster's default, except the storage: the default, a SQLite file for each run, is slower."""


@op
def make_report(context: OpExecutionContext) -> None:
    """Record that it was made."""
    record.write(int(context.run.tags[TAG]), attempt=1, run=context.run_id)


@job(executor_def=in_process_executor)
def report_job() -> None:
    """One report."""
    make_report()


@sensor(job=report_job, minimum_interval_seconds=1, default_status=DefaultSensorStatus.RUNNING)
def new_reports(context: SensorEvaluationContext) -> SensorResult:
    """A run for each row since the last tick; the first tick only notes the newest row."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        if context.cursor is None:
            rows = database.execute("SELECT coalesce(max(id), 0) FROM reportqueue_reportqueue").fetchall()
            return SensorResult(cursor=str(rows[0][0]))
        query = "SELECT id FROM reportqueue_reportqueue WHERE id > %s ORDER BY id LIMIT 100"
        rows = database.execute(query, [int(context.cursor)]).fetchall()
    return SensorResult(
        run_requests=[RunRequest(run_key=str(pk), tags={TAG: str(pk)}) for (pk,) in rows],
        cursor=str(rows[-1][0]) if rows else context.cursor,
    )


defs = Definitions(jobs=[report_job], sensors=[new_reports])
