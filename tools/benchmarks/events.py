"""What events cost: completions without them, with nobody who subscribes, and with three subscribers, in turns.

Needs an empty database in DATABASE_URL; `run.py bench events` provides it. Exits 0 only if the goals hold.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

import django

from tools.benchmarks import figures, moves
from tools.benchmarks.goals import Goals, judge
from tools.runner.arguments import whole_number

ROWS, ROUNDS, SINGLES = 10_000, 5, 1_000
BATCH = 100
SUBSCRIBERS = 3
NOBODY_GOAL, SUBSCRIBED_GOAL = 1.05, 1.2
DELIVERED = 1_000
"""Events that are sent to each subscriber, to say how fast."""
OFF, NOBODY, SUBSCRIBED = "without events", "nobody subscribes", f"{SUBSCRIBERS} subscribers"


def main() -> int:
    """Measure, print the medians; returns 0 if no ratio is over its goal."""
    chosen = _arguments()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(f"load before: {figures.load()}", flush=True)
    nobody, all_of_them = {NOBODY: NOBODY_GOAL}, {NOBODY: NOBODY_GOAL, SUBSCRIBED: SUBSCRIBED_GOAL}
    rounds = chosen.rounds
    goals = {
        **_compare("completions one by one", chosen.singles, rounds, _running, _one_by_one, nobody),
        **_compare(f"completions, {BATCH} in a call", chosen.rows, rounds, _running, _together, nobody),
        **_compare("a backlog: claimed, started, completed", chosen.rows, rounds, _queued, _drain, all_of_them),
    }
    _deliver()
    print(f"load after: {figures.load()}")
    return judge(goals)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench events", description="What events cost the completion of reports.")
    parser.add_argument("--rows", type=whole_number(100, 1_000_000), default=ROWS, help=f"default {ROWS}")
    parser.add_argument("--singles", type=whole_number(10, 100_000), default=SINGLES, help=f"default {SINGLES}")
    parser.add_argument("--rounds", type=whole_number(1, 100), default=ROUNDS, help=f"default {ROUNDS}")
    return parser.parse_args()


def _compare(
    name: str,
    rows: int,
    rounds: int,
    prepare: Callable[[int], Any],
    work: Callable[[Any], None],
    bounds: dict[str, float],
) -> Goals:
    """The same work in each way, in turns that change their order. The ratios that have no bound are printed only."""
    ways = {OFF: _off, NOBODY: _nobody, SUBSCRIBED: _subscribed}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in list(ways) if number % 2 else reversed(list(ways)):
            prepared = prepare(rows)
            with ways[way]():
                began = time.perf_counter()
                work(prepared)
                seconds = time.perf_counter() - began
            if number:  # the first round warms up
                took[way].append(seconds)
    print(f"\n{name}, {rows:,} rows, {rounds} rounds")
    goals: Goals = {}
    for way, found in took.items():
        # Pairs of one round stand for the same moment: the machine may be slower in another.
        ratio = statistics.median(a / b for a, b in zip(found, took[OFF], strict=True))
        print(f"  {way:<20} median {statistics.median(found) / rows * 1e3:.3f} ms a row, {ratio:.2f} times", flush=True)
        if way in bounds:
            goals[f"{name}: {way}, of that {OFF}: at most {bounds[way]}"] = (ratio, ratio <= bounds[way])
    return goals


def _one_by_one(tokens: dict[int, Any]) -> None:
    from reportqueue import queue

    for pk, token in tokens.items():
        queue.complete(pk, lease_token=token, result={"rows": 1})


def _together(tokens: dict[int, Any]) -> None:
    from reportqueue import queue

    pks = list(tokens)
    for first in range(0, len(pks), BATCH):
        some = pks[first : first + BATCH]
        queue.complete_many({pk: tokens[pk] for pk in some}, results={pk: {"rows": 1} for pk in some})


def _drain(rows: int) -> None:
    """Claim, start and complete all rows, as a run for batches does."""
    from reportqueue import queue

    last = None
    for _ in range(0, rows, BATCH):
        claim = queue.claim("benchmark", ack=last, limit=BATCH)
        last = claim.claim_id
        moves.make(claim, run_id=str(last), result=lambda pk: {"rows": 1})


def _queued(rows: int) -> int:
    """So many queued rows in an otherwise empty queue."""
    from django.db import connection

    from reportqueue import queue
    from reportqueue.queue import NewReport

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE reportqueue_reportqueue, reportqueue_outboxevent, reportqueue_eventdelivery CASCADE")
    for first in range(0, rows, 1_000):
        some = min(1_000, rows - first)
        queue.enqueue_many([NewReport(report_id=1 + n % 50, modifier_id=n) for n in range(some)])
    _settle()
    return rows


def _running(rows: int) -> dict[int, Any]:
    """So many running rows, by id, with their tokens."""
    from reportqueue import queue

    _queued(rows)
    tokens: dict[int, Any] = {}
    last = None
    while len(tokens) < rows:
        claim = queue.claim("benchmark", ack=last, limit=1_000)
        last = claim.claim_id
        started = queue.start_many({row.pk: row.generation for row in claim.rows}, run_id=str(last))
        tokens |= {pk: row.lease_token for pk, row in started.items() if not isinstance(row, Exception)}
    _settle()
    return tokens


def _settle() -> None:
    """Have no work of PostgreSQL's own fall into what is measured next."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE reportqueue_reportqueue")
        cursor.execute("CHECKPOINT")


@contextmanager
def _off() -> Iterator[None]:
    """As if there were no events at all."""
    with patch("reportqueue.events.heard", lambda status: ""):
        yield


@contextmanager
def _nobody() -> Iterator[None]:
    yield


@contextmanager
def _subscribed(url: str = "https://example.com/") -> Iterator[None]:
    from reportqueue.models import WebhookSubscription

    made = [WebhookSubscription(url=url, event_types=["report.succeeded"]) for _ in range(SUBSCRIBERS)]
    for one in made:
        one.save()
    try:
        yield
    finally:
        WebhookSubscription.objects.all().delete()


def _deliver() -> None:
    """How many webhooks a second one process sends to a receiver on this machine; printed only."""
    from django.conf import settings

    from reportqueue import outbox
    from reportqueue.models import EventDelivery

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    allowed = {"WEBHOOK_ALLOW_HTTP": True, "WEBHOOK_ALLOWED_NETWORKS": ["127.0.0.0/8"]}
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, **allowed}
    tokens = _running(DELIVERED)
    with _subscribed(f"http://127.0.0.1:{server.server_port}/"):
        _together(tokens)
        began = time.perf_counter()
        sent = outbox.deliver_for(600)
        seconds = time.perf_counter() - began
    server.shutdown()
    left = EventDelivery.objects.exclude(status="delivered").count()
    print(f"\ndelivered: {sent:,} webhooks in {seconds:.1f} s, {sent / seconds:,.0f} a second; {left} left", flush=True)


if __name__ == "__main__":
    sys.exit(main())
