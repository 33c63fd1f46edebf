"""What a long history of finished rows costs: the pages of the API and of the admin, the probes, prune, and writes.

Needs an empty database in DATABASE_URL; `run.py bench history` provides one. Exits 0 only if the goals hold.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import django

from tools.benchmarks import figures, history_prune, history_rows, history_writes
from tools.benchmarks.goals import Goals, judge

SMALL = 10_000
LARGE = (1_000_000, 5_000_000)
WARM, LEAST, MOST = 2, 3, 9
"""Requests that are not counted, and at least and at most so many whose median is taken."""
ENOUGH_SECONDS = 3.0
"""After this time the least number is enough."""
WRITE_GOAL = 1.05
"""The goal: how much more CPU time of PostgreSQL the moves of a row may take with the indexes of the lists."""
PRUNE_GOAL = 1.2
"""The goal: how much longer a prune may take behind rows that it keeps."""
OVERVIEW = "/admin/reportqueue/"
OVERVIEW_GOAL = 1.5
"""The goal: how much longer the overview may take beside the long history than beside an empty table."""
STATEMENTS_GOAL = 20
"""The goal: how many statements the overview may have."""
RATIO_GOAL = 2.0
"""The goal: how much longer a request may take beside the long history than beside the short one."""


@dataclass(frozen=True)
class Cost:
    """The median request, in seconds."""

    whole: float
    """From the request to its answer."""
    cpu: float
    """CPU time of Python and of PostgreSQL for it. Unlike a duration, it has no other work in it."""
    database: float
    """PostgreSQL's part of that CPU time."""
    rows: int
    """How many the page shows."""

    def comparable(self, other: Cost) -> bool:
        """Whether both pages show about the same number of rows."""
        return abs(self.rows - other.rows) <= max(self.rows, other.rows) / 10


def main() -> int:
    """Load, measure, print the tables; returns 0 if the goals hold."""
    chosen = _arguments()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(f"load before: {figures.load()}", flush=True)
    empty = _overview()
    measured: dict[int, dict[str, Cost]] = {}
    for finished in (SMALL, chosen.rows):
        began = time.perf_counter()
        history_rows.load(finished)
        print(f"{finished:,} finished rows loaded in {time.perf_counter() - began:.0f} s", flush=True)
        measured[finished] = _requests()
    goals = _compare(measured[SMALL], measured[chosen.rows], chosen.rows)
    goals |= _compare_overviews(empty, _overview(), chosen.rows)
    goals |= _writes(chosen.rows)
    goals |= _prune()
    print(f"load after: {figures.load()}", flush=True)
    return judge(goals)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench history", description="What a long history costs.", allow_abbrev=False)
    sizes = " or ".join(f"{rows:,}" for rows in LARGE)
    parser.add_argument("--rows", type=int, choices=LARGE, default=LARGE[0], help=f"finished rows: {sizes}")
    return parser.parse_args()


def _requests() -> dict[str, Cost]:
    """The cost of each request, by its name."""
    from django.contrib.auth.models import User
    from django.test import Client

    from reportqueue import tokens

    user = User.objects.create_superuser(f"reader-{time.time_ns()}")
    host = {"SERVER_NAME": "127.0.0.1"}
    api = Client(**host, headers={"Authorization": f"Token {tokens.issue(user, name='benchmark').key}"})
    admin = Client(**host)
    admin.force_login(user)
    found = {}
    for name, path in _api_addresses(api).items():
        found[f"API {name}"] = _cost(api, path)
    for name, query in _admin_queries().items():
        found[f"admin {name}"] = _cost(admin, f"/admin/reportqueue/reportqueue/?{query}")
    for path in ("/status", "/readyz", "/admin/reportqueue/reportschedule/", OVERVIEW):
        found[path] = _cost(admin, path)
    return found


def _overview() -> dict[str, Cost]:
    """The cost of the overview for each span of time, once everything has been measured for it."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from reportqueue import measures

    while measures.roll_up():
        pass
    admin = Client(SERVER_NAME="127.0.0.1")
    admin.force_login(User.objects.create_superuser(f"operator-{time.time_ns()}"))
    found = {span.name: _cost(admin, f"{OVERVIEW}?span={span.name}") for span in measures.SPANS}
    with CaptureQueriesContext(connection) as statements:
        admin.get(OVERVIEW)
    _statements.append(len(statements))
    return found


_statements: list[int] = []
"""How many statements the overview had, each time it was measured."""


def _compare_overviews(empty: dict[str, Cost], full: dict[str, Cost], size: int) -> Goals:
    """Print what the overview costs beside an empty table and beside the long history; returns the goals."""
    print(f"\nthe overview, ms: time, CPU, of it PostgreSQL{'empty':>18}{f'{size:,} rows':>26}{'ratios':>18}")
    goals: Goals = {}
    for name, before in empty.items():
        after = full[name]
        pair = after.whole / before.whole, after.cpu / before.cpu
        costs = "".join(
            f"{cost.whole * 1e3:>12.1f}{cost.cpu * 1e3:>7.1f}{cost.database * 1e3:>7.1f}" for cost in (before, after)
        )
        print(f"{name:<38}{costs}{pair[0]:>11.2f}{pair[1]:>6.2f}", flush=True)
        goal = f"the overview of {name}, CPU, at {size:,} rows against none: at most {OVERVIEW_GOAL:g} times"
        goals[goal] = (pair[1], pair[1] <= OVERVIEW_GOAL)
    most = max(_statements)
    goals[f"statements of the overview: at most {STATEMENTS_GOAL}"] = (float(most), most <= STATEMENTS_GOAL)
    return goals


def _api_addresses(api: Any) -> dict[str, str]:
    """The API's lists, by what is asked for."""
    from django.utils import timezone

    def ago(days: float) -> str:
        return (timezone.now() - timedelta(days=days)).isoformat().replace("+00:00", "Z")

    week = f"trigger_time_after={ago(8)}&processed=any"
    queries = {
        "default": "",
        "processed=any": "processed=any",
        "processed=true": "processed=true",
        **{f"status={name}": f"status={name}" for name in _statuses()},
        "status=failed&status=cancelled": "status=failed&status=cancelled",
        "status=queued&status=failed": "status=queued&status=failed",
        "source=webhook": "source=webhook&processed=any",
        "source=webhook&source=backfill": "source=webhook&source=backfill&processed=any",
        f"source={history_rows.ABSENT_SOURCE}": f"source={history_rows.ABSENT_SOURCE}&processed=any",
        "report_id": "report_id=3&processed=any",
        "report_id, not processed": "report_id=3",
        "report_id, failed": "report_id=3&status=failed",
        "modifier_id": "modifier_id=53&processed=any",
        "report_id and modifier_id": "report_id=3&modifier_id=53&processed=any",
        "trigger_time_after, a day": f"trigger_time_after={ago(2)}&processed=any",
        "trigger_time_after, a week": week,
        "trigger_time_before": f"trigger_time_before={ago(2)}&processed=any",
    }
    addresses = {name: f"/api/report-queue/?{query}" for name, query in queries.items()}
    addresses["pending"] = "/api/pending-reports/"
    addresses["one row"] = f"/api/report-queue/{_oldest_running()}/"
    # A place in the middle of the short history, far from the beginning and the end of the long one.
    for query in ("processed=any", "processed=true", "status=failed", "source=webhook&processed=any"):
        middle = api.get(f"/api/report-queue/?{query}&trigger_time_after={ago(2.5)}&limit=100").json()
        cursor = parse_qs(urlsplit(middle["next"]).query)["cursor"][0]
        addresses[f"{query}, next"] = following = f"/api/report-queue/?{query}&cursor={cursor}"
        addresses[f"{query}, previous"] = api.get(following).json()["previous"]
    return addresses


def _admin_queries() -> dict[str, str]:
    """The admin's lists of rows and the searches of its box."""
    from django.utils import timezone

    from reportqueue.models import ReportQueue, ReportSchedule

    run = ReportQueue.objects.filter(status="succeeded").order_by("-trigger_time").first()
    ordered = ReportQueue.objects.filter(source="api", status="succeeded").order_by("-trigger_time").first()
    schedule = ReportSchedule.objects.order_by("pk").first()
    assert run is not None and ordered is not None and schedule is not None  # noqa: PT018
    day = (timezone.now() - timedelta(days=2)).date()
    return {
        "default": "",
        "page 50": "p=50",
        **{f"status={name}": f"status={name}" for name in _statuses()},
        **{f"now={name}": f"now={name}" for name in ("waiting", "long", "retrying", "in_flight", "late", "failed")},
        "processed=no": "processed=no",
        "processed=yes": "processed=yes",
        **{f"source={name}": f"source={name}" for name in ("schedule", "api", "webhook", history_rows.ABSENT_SOURCE)},
        "report_id": "report_id=3",
        "modifier_id": "modifier_id=53",
        "report_id and modifier_id": "report_id=3&modifier_id=53",
        "day": f"due_from={day}&due_until={day}",
        "from a day on": f"due_from={day}",
        "until a day": f"due_until={day}",
        "schedule": f"schedule={schedule.pk}",
        "status and source": "status=failed&source=api",
        "search id": f"q=id:{run.pk}",
        "search number": f"q={run.pk}",
        "search report:": "q=report:3",
        "search modifier:": "q=modifier:53",
        "search report: modifier:": "q=report:3+modifier:53",
        "search run:": f"q=run:{run.run_id[:8]}",
        "search run: of no row": "q=run:nothing",
        "search word": f"q={run.run_id}",
        "search key:": f"q=key:{ordered.idempotency_key}",
        "search schedule:": f"q=schedule:{schedule.pk}",
    }


def _statuses() -> list[str]:
    from reportqueue.states import Status

    return [str(status) for status in Status]


def _oldest_running() -> int:
    from reportqueue.models import ReportQueue

    return int(ReportQueue.objects.filter(status="running").order_by("pk").values_list("pk", flat=True)[0])


def _cost(client: Any, address: str) -> Cost:
    """The median cost of a request. Raises `RuntimeError` for another answer than 200."""
    times: list[tuple[float, float, float]] = []
    started = time.perf_counter()
    while len(times) < WARM + LEAST or (len(times) < WARM + MOST and time.perf_counter() - started < ENOUGH_SECONDS):
        before, used, began = history_rows.backend_seconds(), time.process_time(), time.perf_counter()
        answer = client.get(address)
        took, used = time.perf_counter() - began, time.process_time() - used
        database = history_rows.backend_seconds() - before
        times.append((took, used + database, database))
        if answer.status_code != 200:
            raise RuntimeError(f"{address} was answered {answer.status_code}.")
    rows = answer.content.count(b'<td class="action-checkbox">') or answer.content.count(b'"queue_id":')
    whole, cpu, database = (statistics.median(part) for part in zip(*times[WARM:], strict=True))
    return Cost(whole, cpu, database, rows)


def _compare(small: dict[str, Cost], large: dict[str, Cost], size: int) -> Goals:
    """Print both costs of each request; returns the goals."""
    heads = "".join(f"{f'{rows:,} rows':>24}" for rows in (SMALL, size))
    print(f"\n{'ms: time, CPU, of it PostgreSQL':<42}{heads}{'ratios':>18}{'shown':>10}")
    ratios: dict[str, tuple[float, float]] = {}
    for name, before in small.items():
        after = large[name]
        pair = after.whole / before.whole, after.cpu / before.cpu
        if before.comparable(after):
            ratios[name] = pair
        costs = "".join(
            f"{cost.whole * 1e3:>10.1f}{cost.cpu * 1e3:>7.1f}{cost.database * 1e3:>7.1f}" for cost in (before, after)
        )
        mark = " " if name in ratios else "*"
        print(f"{name:<42}{costs}{pair[0]:>11.2f}{pair[1]:>6.2f}{mark}{before.rows:>6}{after.rows:>4}", flush=True)
    print("* not compared: the pages show different numbers of rows")
    goals: Goals = {}
    for place, what in enumerate(("request, time", "request, CPU")):
        worst = max(ratios, key=lambda name: ratios[name][place])
        ratio = ratios[worst][place]
        goals[f"{what} at {size:,} against {SMALL:,} rows: at most {RATIO_GOAL:g}. The worst: {worst}"] = (
            ratio,
            ratio <= RATIO_GOAL,
        )
    return goals


def _writes(size: int) -> Goals:
    """Print what the moves of rows cost with the indexes of the lists and without them; returns the goal."""
    before, after = (seconds / history_writes.ROWS * 1e3 for seconds in history_writes.compare())
    print(f"\nms of PostgreSQL's CPU from enqueue to complete, for each row, beside {size:,}:")
    print(f"with an index by trigger_time {before:.3f}, with those of the lists {after:.3f}", flush=True)
    goal = f"CPU of PostgreSQL for the moves of a row, with the indexes of the lists: at most {WRITE_GOAL} times"
    return {goal: (after / before, after / before <= WRITE_GOAL)}


def _prune() -> Goals:
    """Print what rows in front that are kept cost a prune; returns the goal."""
    kept, pruned = history_prune.KEPT, history_prune.PRUNED
    print(f"\nseconds of a prune of {pruned:,} rows{'whole':>12}{'first batch':>13}{'PostgreSQL':>12}", flush=True)
    without, behind = history_prune.compare()
    for name, found in (("nothing is kept in front", without), (f"{kept:,} rows are kept in front", behind)):
        print(f"{name:<35}{found.whole:>8.2f}{found.first:>13.3f}{found.database:>12.2f}", flush=True)
    ratio = behind.database / without.database
    return {
        f"a prune, CPU of PostgreSQL, behind {kept:,} kept rows: at most {PRUNE_GOAL} times": (
            ratio,
            ratio <= PRUNE_GOAL,
        ),
        f"a prune, its time, behind {kept:,} kept rows: at most {PRUNE_GOAL} times": (
            behind.whole / without.whole,
            behind.whole / without.whole <= PRUNE_GOAL,
        ),
    }


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    sys.exit(main())
