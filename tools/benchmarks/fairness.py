"""A customer with many waiting rows: how long do another customer's rows wait, and what does the choice cost?

Needs an empty database in DATABASE_URL; `run.py bench fairness` provides it. Exits 0 only if the goals hold.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event

import django

from tools.benchmarks import figures, moves
from tools.benchmarks.goals import Goals, judge
from tools.runner.arguments import whole_number

WAITING, SINGLES = 100_000, 60
MANY, OTHER = 1, 2
"""The customer with many rows, and the one with a row each second."""
BATCH, REPORT_SECONDS = 25, 0.02
"""The rows of a claim of the only run, and how long it works for each."""
POLL_SECONDS = 0.02
FEW = 10_000
CLAIMS, LIMIT = 40, 100
"""Of each table whose claims are compared."""
GROWTH_GOAL = 1.5
_LOAD = """
INSERT INTO reportqueue_reportqueue (report_id, modifier_id, trigger_time, available_at, status, source, params,
    priority, generation, attempt, max_attempts, launch_failures, claimed_by, run_id, cancel_requested, error)
SELECT %(report)s, %(first)s + n %% %(modifiers)s, now() - interval '1 day',
    now() - interval '1 day' + n * interval '1 ms', 'queued', 'api', '{}',
    0, 0, 0, 3, 0, '', '', false, ''
FROM generate_series(1, %(rows)s) n
"""


def main() -> int:
    """Measure both, print them; returns 0 if nobody waits for another's rows, and no table makes claims dear."""
    chosen = _arguments()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(f"load before: {figures.load()}", flush=True)
    goals = {**_delays(chosen.rows), **_costs(chosen.large)}
    print(f"load after: {figures.load()}")
    return judge(goals)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench fairness", description="What one customer's rows do to another's.")
    parser.add_argument("--rows", type=whole_number(1_000, 10_000_000), default=WAITING, help=f"default {WAITING}")
    parser.add_argument(
        "--large", type=whole_number(100_000, 100_000_000), default=1_000_000, help="rows of a full table"
    )
    return parser.parse_args()


def _delays(rows: int) -> Goals:
    """How long a row of the other customer waits for its start, with and without the many rows."""
    print(f"\nstart delay of one row a second, {SINGLES} of them")
    alone = _delay("alone")
    fill(rows, modifiers=1, report=MANY)
    beside = _delay(f"beside {rows:,} rows of another customer")
    batch = beside[2]
    goal = f"{{}} of the delay beside many rows, minus that alone, in batches under way ({batch:.2f} s): at most 1"
    later = {"median": beside[0] - alone[0], "p95": beside[1] - alone[1]}
    return {goal.format(name): (seconds / batch, seconds <= batch) for name, seconds in later.items()}


def _delay(name: str) -> tuple[float, float, float]:
    """The median and the 95th percentile, and how long the run takes for a claim and its rows."""
    from django.db import connections

    from reportqueue import queue
    from reportqueue.models import ReportQueue

    connections.close_all()
    context = multiprocessing.get_context("spawn")
    stop, took = context.Event(), context.SimpleQueue()
    run = context.Process(target=_run, args=(stop, took))
    run.start()
    time.sleep(3)  # until it claims
    ids = []
    for _ in range(SINGLES):
        ids.append(queue.enqueue(report_id=OTHER, modifier_id=OTHER).pk)
        time.sleep(1)
    stop.set()
    batch = took.get()
    run.join()
    made = ReportQueue.objects.filter(pk__in=ids, started_at__isnull=False)
    waited = [(row.started_at - row.available_at).total_seconds() for row in made if row.started_at]
    if len(waited) < SINGLES - 1:  # the last one may have come too late
        raise RuntimeError(f"{name}: only {len(waited)} of {SINGLES} rows were started.")
    found = statistics.median(waited), figures.p95(waited), batch
    print(f"  {name:<45} median {found[0]:.2f} s, p95 {found[1]:.2f} s", flush=True)
    return found


def _run(stop: Event, took: SimpleQueue[float]) -> None:
    """Make rows, as a run for batches does, until it is told to stop."""
    django.setup()
    from reportqueue import queue

    last, seconds = None, []
    while not stop.is_set():
        began = time.monotonic()
        claim = queue.claim("run", ack=last, limit=BATCH)
        last = claim.claim_id
        if not claim.rows:
            time.sleep(POLL_SECONDS)
            continue
        moves.make(claim, run_id=str(last), result=lambda pk: {}, work=lambda: time.sleep(BATCH * REPORT_SECONDS))
        seconds.append(time.monotonic() - began)
    took.put(statistics.median(seconds))


def _costs(large: int) -> Goals:
    """How long a claim takes if much waits, beside the same where little waits."""
    tables: dict[str, Callable[[int], object]] = {
        "two modifiers, one with nearly all rows": lambda rows: (
            fill(rows, modifiers=1),
            fill(FEW, modifiers=1, first=1),
        ),
        "a modifier for each ten rows": lambda rows: fill(rows, modifiers=rows // 10),
        "all rows of one report over its cap": _over_the_cap,
    }
    print(f"\nclaims of {LIMIT} rows")
    goals: Goals = {}
    for name, load in tables.items():
        few, many = _claims(load, FEW), _claims(load, large)
        print(f"  {name:<45} {FEW:,} rows {few * 1e3:.1f} ms, {large:,} rows {many * 1e3:.1f} ms", flush=True)
        goals[f"{name}: a claim at {large:,} rows, of one at {FEW:,}: at most {GROWTH_GOAL}"] = (
            many / few,
            many / few <= GROWTH_GOAL,
        )
    return goals


def _over_the_cap(rows: int) -> None:
    from reportqueue import queue
    from reportqueue.models import Report

    Report(report_id=1, name="Capped", max_running=1).save()
    fill(rows, modifiers=100)
    queue.claim("another", limit=1)
    fill(FEW, modifiers=100, report=2)


def fill(rows: int, *, modifiers: int, report: int = 1, first: int = 0) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_LOAD, {"report": report, "first": first, "modifiers": modifiers, "rows": rows})
        cursor.execute("VACUUM ANALYZE reportqueue_reportqueue")


def _claims(load: Callable[[int], object], rows: int) -> float:
    """The median seconds of a claim of a table that is loaded anew."""
    from django.db import connection

    from reportqueue import queue
    from reportqueue.models import Report

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE reportqueue_reportqueue CASCADE")
    Report.objects.all().delete()
    load(rows)
    seconds, last = [], None
    for _ in range(CLAIMS):
        began = time.perf_counter()
        claim = queue.claim("claimer", ack=last, limit=LIMIT)
        seconds.append(time.perf_counter() - began)
        if len(claim.rows) != LIMIT:
            raise RuntimeError(f"A claim got {len(claim.rows)} rows of {LIMIT}.")
        last = claim.claim_id
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
