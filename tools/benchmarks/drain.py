"""How fast a backlog is drained: by the product in batches, with a run for each report, and without the product.

Needs an empty database in DATABASE_URL; `run.py bench drain` provides it. Exits 0 only if the goals hold; with
`--kill`, only if no report was lost, made twice or got stuck.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace

import django

from tools.benchmarks import figures, kills, stock
from tools.benchmarks.goals import judge
from tools.benchmarks.installation import Installation

REPORTS = 10_000
ONE_BY_ONE = 200
STOCK = 30
"""Fewer reports, because all of them would take hours at this rate."""
DRAIN_SECONDS = 900.0
BATCH_GOAL, ONE_GOAL = 100.0, 4.0
STOCK_GOAL, ONE_STOCK_GOAL = 100.0, 5.0
"""The ratios that decide."""


def main() -> int:
    """Measure and print the table; returns 0 if the goals hold."""
    chosen = _arguments()
    django.setup()
    print(f"load before: {figures.load()}", flush=True)
    if chosen.kill:
        return kills.drain()
    with Installation("ours", code="tools.benchmarks.location") as one:
        batches = _drain(one, REPORTS, "many reports a run")
    with Installation("single", code="tools.benchmarks.location", REPORT_BATCH_SIZE="1") as one:
        singles = _drain(one, ONE_BY_ONE, "one run a report")
    with Installation("stock", code="tools.benchmarks.stock", dagster_yaml=stock.YAML) as other:
        without = _drain(other, STOCK, "stock Dagster", finished=False)
    print(f"\n{'':<34} {'reports':>8} {'seconds':>8} {'a second':>9}")
    for name, number, seconds in (
        ("reportqueue, many reports a run", REPORTS, batches),
        ("reportqueue, one run a report", ONE_BY_ONE, singles),
        ("stock Dagster", STOCK, without),
    ):
        print(f"{name:<34} {number:>8,} {seconds:>8.1f} {number / seconds:>9.2f}")
    print(f"load after: {figures.load()}", flush=True)
    many, one_by_one, stocks = REPORTS / batches, ONE_BY_ONE / singles, STOCK / without
    return judge(
        {
            f"{words}, against stock: at least {goal:g} times": (rate / stocks, rate / stocks >= goal)
            for words, rate, goal in (
                ("many reports a run", many, STOCK_GOAL),
                ("one run a report", one_by_one, ONE_STOCK_GOAL),
            )
        },
        absolute={
            f"many reports a run: at least {BATCH_GOAL:g} a second": (many, many >= BATCH_GOAL),
            f"one run a report: at least {ONE_GOAL:g} a second": (one_by_one, one_by_one >= ONE_GOAL),
        },
    )


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench drain", description="How fast a backlog is drained.", allow_abbrev=False)
    parser.add_argument("--kill", action="store_true", help="kill each process several times, and count lost reports")
    return parser.parse_args()


def _drain(one: Installation, number: int, name: str, *, finished: bool = True) -> float:
    """Seconds from the commit of so many due reports until the last has succeeded (without the queue: was made)."""
    from reportqueue.models import ReportQueue
    from reportqueue.queue import NewReport

    new = [NewReport(report_id=1 + n % 500, modifier_id=n) for n in range(number)]
    pks = one.enqueue(new)
    began, until, said = time.time(), time.time() + DRAIN_SECONDS, 0.0
    while True:
        time.sleep(0.2)
        one.children.check()
        if finished:
            done = ReportQueue.objects.filter(pk__gte=pks[0], status="succeeded").count()
        else:
            done = len({line.row for line in one.lines() if line.row >= pks[0]})
        seconds = time.time() - began
        if done >= number:
            break
        if time.time() > until:
            raise TimeoutError(f"{name}: {done:,} of {number:,} reports were made in {seconds:.0f} s")
        if seconds - said >= 5:
            said = seconds
            print(f"{name}: {done:,} of {number:,} after {seconds:.0f} s", flush=True)
    print(f"{name}: {number:,} in {seconds:.1f} s", flush=True)
    return seconds


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    sys.exit(main())
