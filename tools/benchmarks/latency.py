"""How long a report takes from its trigger to the first line of its code: with the product, and without it.

Each trigger is one committed row, at a random moment, with nothing else under way. And schedules: from the instant that
they name, by the real scheduler. Needs an empty database in DATABASE_URL; `run.py bench latency` provides it. Exits 0
only if the goals hold.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time

import django

from tools.benchmarks import figures, stock
from tools.benchmarks.goals import judge
from tools.benchmarks.installation import REPORT_SECONDS, Installation

TRIGGERS = 30
GAP_SECONDS = (1.0, 4.0)
"""The pause between a report and the next trigger; evenly distributed."""
INSTANTS = 6
"""Minutes in which the schedule is due."""
MEDIAN_GOAL, P95_GOAL = 0.5, 1.0
STOCK_GOAL, SPREAD_GOAL = 12.0, 2.0
"""The ratios that decide."""


def main() -> int:
    """Measure and print the table; returns 0 if the goals hold."""
    django.setup()
    print(f"load before: {figures.load()}", flush=True)
    with Installation(
        "ours",
        code="tools.benchmarks.location",
        scheduler=True,
    ) as one:
        committed = _triggers(one, "reportqueue, trigger")
        instants = _instants(one)
    with Installation("stock", code="tools.benchmarks.stock", dagster_yaml=stock.YAML) as other:
        without = _triggers(other, "stock Dagster, trigger")
    print(f"\n{'seconds to the first line':<34} {'number':>6} {'median':>7} {'p95':>7} {'least':>7} {'most':>7}")
    for name, found in {
        "reportqueue, from the commit": committed,
        "reportqueue, from the cron instant": instants,
        "stock Dagster, from the commit": without,
    }.items():
        print(
            f"{name:<34} {len(found):>6} {statistics.median(found):>7.2f} {figures.p95(found):>7.2f} "
            f"{min(found):>7.2f} {max(found):>7.2f}"
        )
    print(f"load after: {figures.load()}", flush=True)
    absolute, goals = {}, {}
    for words, found in {"commit to first line": committed, "instant to first line": instants}.items():
        median, p95 = statistics.median(found), figures.p95(found)
        absolute[f"{words}, median: at most {MEDIAN_GOAL} s"] = median, median <= MEDIAN_GOAL
        absolute[f"{words}, 95th percentile: at most {P95_GOAL} s"] = p95, p95 <= P95_GOAL
        goals[f"{words}, 95th percentile: at most {SPREAD_GOAL:g} medians"] = p95 / median, p95 / median <= SPREAD_GOAL
    times = statistics.median(without) / statistics.median(committed)
    goals[f"commit to first line, median: at least {STOCK_GOAL:g} times faster than stock"] = times, times >= STOCK_GOAL
    return judge(goals, absolute=absolute)


def _triggers(one: Installation, name: str) -> list[float]:
    from reportqueue import queue

    found = []
    for n in range(TRIGGERS):
        time.sleep(random.uniform(*GAP_SECONDS))
        pk = queue.enqueue(report_id=1, modifier_id=1).pk
        committed = time.time()
        (line,) = one.wait_for([pk], REPORT_SECONDS)
        found.append(line.at - committed)
        print(f"{name} {n + 1} of {TRIGGERS}: {found[-1]:.2f} s", flush=True)
    return found


def _instants(one: Installation) -> list[float]:
    from reportqueue.models import ReportQueue, ReportSchedule

    ReportSchedule.objects.update(enabled=False)
    schedule = ReportSchedule(report_id=2, modifier_id=1, cron="* * * * *")
    schedule.save()
    found: list[float] = []
    while len(found) < INSTANTS:
        time.sleep(0.5)
        rows = {row.pk: row for row in ReportQueue.objects.filter(schedule=schedule)}
        if len(rows) > len(found):
            newest = max(rows)
            (line,) = one.wait_for([newest], REPORT_SECONDS)
            found.append(line.at - rows[newest].trigger_time.timestamp())
            print(f"reportqueue, instant {len(found)} of {INSTANTS}: {found[-1]:.2f} s", flush=True)
    return found


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    sys.exit(main())
