"""What rows that are kept cost a prune: the oldest finished rows are the last ones of their reports, and stay."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import timedelta

from tools.benchmarks import history_rows

KEPT, PRUNED, KEEP = 30_000, 20_000, 3
"""Rows that stay in front, rows that are deleted, and `--keep`. Of each report and modifier of the rows in front, there
are just `KEEP`."""
ROUNDS = 3

_ROWS = """
INSERT INTO reportqueue_reportqueue (report_id, modifier_id, trigger_time, available_at, finished_at, status, source,
    params, priority, generation, attempt, max_attempts, launch_failures, claimed_by, run_id, cancel_requested, error)
SELECT %(report)s, n %% %(pairs)s, due, due, due, 'succeeded', 'api', jsonb_build_object('customer', n), 0, 1, 1, 3, 0,
    'lane', gen_random_uuid()::text, false, ''
FROM (SELECT n, now() - %(days)s * interval '1 day' + n * interval '1 second' AS due
      FROM generate_series(1, %(rows)s) n) AS row
"""
_ATTEMPTS = """
INSERT INTO reportqueue_reportattempt (queue_id, generation, attempt, run_id, parent_run_id, worker, lease_token,
    started_at, finished_at, outcome, progress, error)
SELECT id, 1, 1, run_id, '', 'host:1', gen_random_uuid(), finished_at, finished_at, 'succeeded', '', ''
FROM reportqueue_reportqueue ORDER BY id
"""


@dataclass(frozen=True)
class Pruned:
    """Seconds of a whole prune, and of its first batch, which has to read the rows that stay in front."""

    whole: float
    first: float
    database: float
    """CPU time of PostgreSQL for the whole."""


def compare() -> tuple[Pruned, Pruned]:
    """The median prune without rows in front, and with them. Raises `RuntimeError` if another number is deleted."""
    without, behind = [], []
    for _ in range(ROUNDS):
        without.append(_prune(0))
        behind.append(_prune(KEPT))
    return _median(without), _median(behind)


def _median(found: list[Pruned]) -> Pruned:
    return Pruned(
        statistics.median(one.whole for one in found),
        statistics.median(one.first for one in found),
        statistics.median(one.database for one in found),
    )


def _prune(kept: int) -> Pruned:
    from reportqueue import queue

    history_rows.execute("TRUNCATE reportqueue_reportqueue, reportqueue_reportattempt CASCADE")
    for report, rows, pairs, days in ((1, kept, KEPT // KEEP, 400), (2, PRUNED, 1_000, 300), (2, 3_000, 1_000, 0.5)):
        history_rows.execute(_ROWS, {"report": report, "rows": rows, "pairs": pairs, "days": days})
    history_rows.execute(_ATTEMPTS)
    history_rows.settle()
    before, began = history_rows.backend_seconds(), time.perf_counter()
    deleted, first = 0, 0.0
    for done in queue.prune(older_than=timedelta(days=90), keep=KEEP):
        deleted += done.deleted
        first = first or time.perf_counter() - began
    if deleted != PRUNED:
        raise RuntimeError(f"{deleted:,} rows were deleted, not {PRUNED:,}.")
    return Pruned(time.perf_counter() - began, first, history_rows.backend_seconds() - before)
