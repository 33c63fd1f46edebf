"""A long history of finished rows, as an installation has it after years, and the CPU time that statements take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCHEDULES, REPORTS, MODIFIERS = 50, 50, 100
"""Few, so that each of them fills a page at the smallest size: pages with the same number of rows are compared."""
QUEUED, RUNNING = 400, 20
"""Unfinished rows, the same at each size."""
SECONDS_APART = 30
"""A history grows at a constant rate: a longer one goes further back."""
ABSENT_STATUS, ABSENT_SOURCE = "claimed", "admin"
"""No row has them."""

_SCHEDULES = """
INSERT INTO reportqueue_reportschedule (report_id, modifier_id, cron, timezone, enabled, params, priority,
    max_attempts, next_run_at, planned_from, plan_needed, error, blackout, paused_by, pause_note, catch_up,
    catch_up_window_seconds, catch_up_limit, overlap, jitter_seconds)
SELECT n % %(reports)s, n % %(modifiers)s, '0 0 1 1 *', 'Europe/Paris', true, '{}', 0, 3, now() + interval '300 days',
    now(), false, '', 'skip', '', '', 'all', 604800, 1000, 'allow', 0
FROM generate_series(1, %(schedules)s) n
"""
# Of 100 finished rows, 91 succeeded, and 3 each failed, were cancelled or skipped. 60 came from schedules. A schedule
# has at most one row at an instant. Cancelled and skipped rows were never claimed.
_FINISHED = """
INSERT INTO reportqueue_reportqueue (report_id, modifier_id, trigger_time, available_at, status, source, schedule_id,
    params, priority, generation, attempt, max_attempts, launch_failures, claimed_by, claim_id, claimed_at,
    dispatched_at, started_at, finished_at, run_id, cancel_requested, error, result, idempotency_key, created_at)
SELECT n % %(reports)s, n % %(modifiers)s, due, due, status, source,
    CASE source WHEN 'schedule' THEN first_schedule + n % %(schedules)s END,
    jsonb_build_object('customer', n, 'language', 'en'), priority, ran, ran, 3, 0,
    CASE ran WHEN 1 THEN 'lane-' || n % 3 ELSE '' END, CASE ran WHEN 1 THEN gen_random_uuid() END,
    CASE ran WHEN 1 THEN due + interval '1 second' END, CASE ran WHEN 1 THEN due + interval '2 seconds' END,
    CASE ran WHEN 1 THEN due + interval '3 seconds' END, due + interval '1 minute',
    CASE ran WHEN 1 THEN gen_random_uuid()::text ELSE '' END, false,
    CASE status WHEN 'succeeded' THEN '' ELSE 'Traceback (most recent call last): ...' END,
    CASE status WHEN 'succeeded' THEN jsonb_build_object('artifacts', jsonb_build_object('report.pdf', '/r/' || n)) END,
    CASE source WHEN 'api' THEN 'order-' || n END, due
FROM (
    SELECT n, (SELECT min(id) FROM reportqueue_reportschedule) AS first_schedule,
        now() - interval '1 day' - n * %(apart)s * interval '1 second' AS due,
        CASE WHEN dice < 91 THEN 'succeeded' WHEN dice < 94 THEN 'failed' WHEN dice < 97 THEN 'cancelled'
            ELSE 'skipped' END AS status,
        CASE WHEN dice < 94 THEN 1 ELSE 0 END AS ran,
        CASE WHEN other < 60 THEN 'schedule' WHEN other < 80 THEN 'api' WHEN other < 90 THEN 'code'
            WHEN other < 95 THEN 'webhook' ELSE 'backfill' END AS source,
        CASE WHEN third < 90 THEN 0 WHEN third < 95 THEN 10 ELSE -10 END AS priority
    FROM (SELECT n, random() * 100 AS dice, random() * 100 AS other, random() * 100 AS third
          FROM generate_series(1, %(finished)s) n OFFSET 0) AS thrown
) AS row
ORDER BY n DESC
"""
_ATTEMPTS = """
INSERT INTO reportqueue_reportattempt (queue_id, generation, attempt, run_id, parent_run_id, worker, lease_token,
    started_at, finished_at, outcome, progress, error)
SELECT id, 1, 1, run_id, '', 'host:1', gen_random_uuid(), started_at, finished_at,
    CASE status WHEN 'running' THEN '' ELSE status END, '', ''
FROM reportqueue_reportqueue WHERE run_id <> '' ORDER BY id
"""
_UNFINISHED = """
INSERT INTO reportqueue_reportqueue (report_id, modifier_id, trigger_time, available_at, status, source, params,
    priority, generation, attempt, max_attempts, launch_failures, claimed_by, claim_id, claimed_at, dispatched_at,
    started_at, lease_expires_at, lease_token, run_id, cancel_requested, error)
SELECT n % %(reports)s, n % %(modifiers)s, now() - n * interval '1 second', now() - n * interval '1 second',
    CASE WHEN runs THEN 'running' ELSE 'queued' END, CASE n % 4 WHEN 0 THEN 'schedule' ELSE 'api' END, '{}',
    n % 3 - 1, runs::int, runs::int, 3, 0, CASE WHEN runs THEN 'lane-1' ELSE '' END,
    CASE WHEN runs THEN gen_random_uuid() END, CASE WHEN runs THEN now() END, CASE WHEN runs THEN now() END,
    CASE WHEN runs THEN now() END, CASE WHEN runs THEN now() + interval '1 day' END,
    CASE WHEN runs THEN gen_random_uuid() END, CASE WHEN runs THEN gen_random_uuid()::text ELSE '' END, false, ''
FROM (SELECT n, n <= %(running)s AS runs FROM generate_series(1, %(running)s + %(queued)s) n) AS row
"""


def load(finished: int) -> None:
    """Empty the tables, load so many finished rows with their attempts, and vacuum as autovacuum would."""
    execute("TRUNCATE reportqueue_reportqueue, reportqueue_reportattempt, reportqueue_reportschedule CASCADE")
    values = {
        "finished": finished,
        "reports": REPORTS,
        "modifiers": MODIFIERS,
        "schedules": SCHEDULES,
        "queued": QUEUED,
        "running": RUNNING,
        "apart": SECONDS_APART,
    }
    execute("SELECT setseed(0.5)")
    for statement in (_SCHEDULES, _FINISHED, _UNFINISHED):
        execute(statement.replace(" % ", " %% "), values)
    execute(_ATTEMPTS)
    settle()


def settle() -> None:
    """Vacuum and analyze the tables, and write all pages, so that none of this happens while something is measured."""
    for table in ("reportschedule", "reportqueue", "reportattempt"):
        execute(f"VACUUM ANALYZE reportqueue_{table}")
    execute("CHECKPOINT")


def execute(sql: str, values: dict[str, Any] | Sequence[Any] | None = None) -> None:
    """Run one statement."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def backend_seconds() -> float:
    """The CPU time so far of PostgreSQL's process for this connection."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
