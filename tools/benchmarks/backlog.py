"""A long backlog, made by several runs at once: does a claim take longer at its end than at its beginning?

Each run is a process that claims, starts and completes rows by the verbs that the API calls. Needs an empty database in
DATABASE_URL; `run.py bench backlog` provides it. Exits 0 only if the goal holds.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

import django

from tools.benchmarks import figures, moves
from tools.benchmarks.goals import judge
from tools.runner.arguments import whole_number

ROWS, RUNS, LIMIT = 1_000_000, 4, 100
ENDS = 10
"""The first and the last of so many parts are compared."""
GROUP = 50
"""Claims of which the slowest counts: a single slow claim of thousands is the disk's, not the queue's."""
GROWTH_GOAL = 1.1


@dataclass(frozen=True)
class Claimed:
    """One claim that got rows."""

    at: float
    """On the clock that all processes share."""
    seconds: float
    rows: int


def main() -> int:
    """Load, drain, print the claims of each part; returns 0 if they have not become slower."""
    chosen = _arguments()
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from reportqueue.models import ReportQueue
    from tools.benchmarks.claim import load

    call_command("migrate", verbosity=0)
    print(f"load before: {figures.load()}", flush=True)
    load(chosen.rows)
    connections.close_all()
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(chosen.runs) as pool:
        found = [claimed for claims in pool.map(_run, range(chosen.runs), chunksize=1) for claimed in claims]
    seconds = time.monotonic() - began
    made = ReportQueue.objects.filter(status="succeeded", attempts__outcome="succeeded").count()
    print(f"{made:,} of {chosen.rows:,} rows made in {seconds:,.0f} s, {made / seconds:,.0f} a second", flush=True)
    if made != chosen.rows or sum(claimed.rows for claimed in found) != made:
        print("error: rows were lost, or handed out twice", flush=True)
        return 1
    parts = _parts(sorted(found, key=lambda claimed: claimed.at), chosen.rows)
    print(f"\n{'rows made':>10} {'claims':>7} {'median':>9} {'p95':>9} {'largest':>9} {f'largest of {GROUP}':>14}")
    for number, part in enumerate(parts, 1):
        ms = [claimed.seconds * 1e3 for claimed in part]
        print(
            f"{number * chosen.rows // ENDS:>10,} {len(ms):>7,} {statistics.median(ms):>6.1f} ms"
            f" {figures.p95(ms):>6.1f} ms {max(ms):>6.0f} ms {_largest(part) * 1e3:>11.1f} ms",
            flush=True,
        )
    print(f"load after: {figures.load()}")
    growth = _largest(parts[-1]) / _largest(parts[0])
    goal = f"largest latency of {GROUP} claims, median of the last tenth, of that of the first: at most {GROWTH_GOAL}"
    return judge({goal: (growth, growth <= GROWTH_GOAL)})


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench backlog", description="A long backlog, made by several runs at once.")
    parser.add_argument("--rows", type=whole_number(10_000, 100_000_000), default=ROWS, help=f"default {ROWS}")
    parser.add_argument("--runs", type=whole_number(1, 64), default=RUNS, help=f"processes at once (default {RUNS})")
    return parser.parse_args()


def _run(number: int) -> list[Claimed]:
    """Make rows until none are left; returns the claims."""
    django.setup()
    from reportqueue import queue

    found: list[Claimed] = []
    last = None
    while True:
        began = time.monotonic()
        claim = queue.claim(f"run-{number}", ack=last, limit=LIMIT)
        if not claim.rows:
            return found
        found.append(Claimed(began, time.monotonic() - began, len(claim.rows)))
        last = claim.claim_id
        moves.make(claim, run_id=str(last), result=lambda pk: {})


def _parts(found: list[Claimed], rows: int) -> list[list[Claimed]]:
    parts: list[list[Claimed]] = [[] for _ in range(ENDS)]
    before = 0
    for claimed in found:
        parts[min(before * ENDS // rows, ENDS - 1)].append(claimed)
        before += claimed.rows
    return parts


def _largest(part: list[Claimed]) -> float:
    groups = [part[first : first + GROUP] for first in range(0, len(part), GROUP)]
    return statistics.median(max(claimed.seconds for claimed in group) for group in groups)


if __name__ == "__main__":
    sys.exit(main())
