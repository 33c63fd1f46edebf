"""The scheduler with a thousand, a hundred thousand and a million schedules: an idle pass, and one with many due.

Needs an empty database in DATABASE_URL; `run.py bench schedules` provides one. Exits 0 only if the goals hold.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import django

from tools.benchmarks.goals import judge

SIZES = (1_000, 100_000, 1_000_000)
DUE = 100_000
IDLE_PASSES = 300
IDLE_RATIO_GOAL = 1.5
"""The goal: how much more an idle pass may cost at the largest size than at the smallest."""
RATE_GOAL = 10_000
"""The goal: due schedules queued per second."""
MEMORY_RATIO_GOAL = 1.5
"""The goal: how much more memory a pass may use for a hundred thousand due schedules than for a tenth of them."""


@dataclass
class Measured:
    """One pass, in a process of its own."""

    seconds: float
    enqueued: int
    statements: int
    peak_mib: float
    """The peak memory of the pass by Python's allocator; 0 if it was not traced, as tracing takes time."""


def main() -> int:
    """Fill, measure, print the table; returns 0 if the goals hold."""
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(
        f"{'schedules':>10} {'idle pass':>10} {'statements':>10}   {'due':>8} {'rows/s':>8} {'statements':>10} "
        f"{'peak MiB':>9} {'idle after':>10}",
        flush=True,
    )
    idle: dict[int, float] = {}
    rates: list[float] = []
    memory: dict[int, float] = {}
    for size in SIZES:
        _fill(size)
        idle[size], statements = _idle()
        for due in sorted({min(size, DUE // 10), min(size, DUE)}):
            _make_due(due)
            measured = _pass("timed")
            if measured.enqueued != due:
                print(f"error: {due:,} were due, {measured.enqueued:,} were enqueued", file=sys.stderr)
                return 1
            rate = measured.enqueued / measured.seconds
            if due == DUE:
                rates.append(rate)
            after, _ = _idle()
            _make_due(due)
            memory[due] = _pass("counted").peak_mib
            print(
                f"{size:>10,} {idle[size] * 1e3:>7.2f} ms {statements:>10}   {due:>8,} {rate:>8,.0f} "
                f"{measured.statements:>10,} {memory[due]:>9.1f} {after * 1e3:>7.2f} ms",
                flush=True,
            )
    return judge(
        {
            f"idle pass, {SIZES[-1]:,} against {SIZES[0]:,} schedules: ratio under {IDLE_RATIO_GOAL}": (
                idle[SIZES[-1]] / idle[SIZES[0]],
                idle[SIZES[-1]] / idle[SIZES[0]] < IDLE_RATIO_GOAL,
            ),
            f"memory held by a pass, {DUE:,} against {DUE // 10:,} due: ratio under {MEMORY_RATIO_GOAL}": (
                memory[DUE] / memory[DUE // 10],
                memory[DUE] / memory[DUE // 10] < MEMORY_RATIO_GOAL,
            ),
        },
        absolute={
            f"due schedules a second, the slowest of the passes with {DUE:,}: at least {RATE_GOAL:,}": (
                min(rates),
                min(rates) >= RATE_GOAL,
            )
        },
    )


def _fill(size: int) -> None:
    """Create so many schedules: 1,440 expressions in five time zones, planned for the rest of the year."""
    _execute("TRUNCATE reportqueue_reportqueue, reportqueue_reportschedule CASCADE")
    _execute(
        """
        INSERT INTO reportqueue_reportschedule (report_id, modifier_id, cron, timezone, enabled, params, priority,
            max_attempts, next_run_at, planned_from, plan_needed, error, blackout, paused_by, pause_note, catch_up,
            catch_up_window_seconds, catch_up_limit, overlap, jitter_seconds)
        SELECT n %% 500, n, (n %% 60) || ' ' || (n / 60 %% 24) || ' * * *',
            (ARRAY['UTC', 'Europe/Paris', 'America/New_York', 'Asia/Kolkata', 'Australia/Sydney'])[n %% 5 + 1],
            true, jsonb_build_object('customer', n), 0, 3, now() + interval '1 day' + n * interval '1 second', now(),
            false, '', 'skip', '', '', 'all', 604800, 1000, 'allow', 0
        FROM generate_series(1, %s) n
        """,
        [size],
    )
    _execute("VACUUM ANALYZE reportqueue_reportschedule")
    _execute("VACUUM ANALYZE reportqueue_reportqueue")


def _make_due(count: int) -> None:
    """Move the next firing of `count` schedules into this minute, and that of all others far away."""
    _execute(
        """
        UPDATE reportqueue_reportschedule SET next_run_at = now() + interval '1 day'
        WHERE next_run_at < now() + interval '6 hours'
        """
    )
    _execute(
        """
        UPDATE reportqueue_reportschedule SET next_run_at = date_trunc('minute', now())
        WHERE id IN (SELECT id FROM reportqueue_reportschedule ORDER BY id LIMIT %s)
        """,
        [count],
    )
    _execute("TRUNCATE reportqueue_reportqueue CASCADE")
    _execute("VACUUM ANALYZE reportqueue_reportschedule")
    _execute("CHECKPOINT")


def _execute(sql: str, values: list[Any] | None = None) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def _idle() -> tuple[float, int]:
    """The median seconds of many passes that find nothing, and the SQL statements of one."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from reportqueue import schedules

    with CaptureQueriesContext(connection) as asked:
        schedules.enqueue_due()
    times = []
    for _ in range(IDLE_PASSES):
        began = time.perf_counter()
        schedules.enqueue_due()
        times.append(time.perf_counter() - began)
    return statistics.median(times), len(asked)


def _pass(how: str) -> Measured:
    answer = subprocess.run(
        [sys.executable, "-m", "tools.benchmarks.schedules", how], check=True, stdout=subprocess.PIPE, env=os.environ
    )
    return Measured(**json.loads(answer.stdout))


def measure_pass(*, memory: bool) -> None:
    """Make one pass as the scheduler does, with its log; prints the cost."""
    django.setup()
    from django.db import connection

    from reportqueue import schedules

    schedules.next_due()  # connects, and imports what the first statement imports
    asked = 0

    def count(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        nonlocal asked
        asked += 1
        return execute(sql, params, many, context)

    if memory:
        tracemalloc.start()
    began = time.perf_counter()
    with connection.execute_wrapper(count):
        done = schedules.enqueue_due()
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    print(json.dumps({"seconds": seconds, "enqueued": done.enqueued, "statements": asked, "peak_mib": peak}))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    if sys.argv[1:] in (["timed"], ["counted"]):
        measure_pass(memory=sys.argv[1] == "counted")
    else:
        sys.exit(main())
