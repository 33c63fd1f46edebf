"""What the demo shows of the queue while it runs. Imported once the environment is set: it sets up Django."""

from __future__ import annotations

import logging
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException

import django

django.setup()
logging.getLogger("reportqueue").setLevel(logging.WARNING)  # what it enqueues is shown anyway

from django.db import Error, connection  # noqa: E402
from django.db.models import Count  # noqa: E402

from project import demo_reports, reports  # noqa: E402
from reportqueue import queue  # noqa: E402
from reportqueue.models import ReportQueue  # noqa: E402
from reportqueue.states import Status  # noqa: E402

POLL_SECONDS = 0.5
NO_DATABASE = "the database does not answer"


def show(check: Callable[[], None]) -> None:
    """Print a line whenever rows have moved, until `check` or a signal raises."""
    print("Reports by status, a line whenever something moves; Ctrl-C stops everything.", flush=True)
    last = ""
    while True:
        check()
        try:
            line = _counts()
        except Error:
            line = NO_DATABASE
        last = _say_if_new(line, last)
        connection.close()
        time.sleep(POLL_SECONDS)


def once(check: Callable[[], None], environment: dict[str, str], timeout: float) -> int:
    """Enqueue the demo's reports, wait until all are final, and say how each went; 0 only if all succeeded."""
    wanted = [done.row.pk for done in queue.enqueue_many([queue.NewReport(**report) for report in demo_reports.ONCE])]
    until = time.monotonic() + timeout
    last = ""
    rows: list[ReportQueue] = []
    while True:
        check()
        try:
            rows = list(ReportQueue.objects.filter(pk__in=wanted).order_by("pk"))
            line = "  ".join(f"{status.value} {count}" for status in Status if (count := _count(rows, status)))
        except Error:
            line = NO_DATABASE
        last = _say_if_new(line, last)
        if (rows and all(row.processed for row in rows)) or time.monotonic() > until:
            break
        connection.close()
        time.sleep(POLL_SECONDS)
    print()
    names = {entry.report_id: entry for entry in reports.catalog()}
    good = 0
    for row in rows:
        entry = names[row.report_id]
        title = f"{entry.name}: {entry.modifiers[row.modifier_id]}"
        seconds = f"{(row.finished_at - row.trigger_time).total_seconds():.1f} s" if row.finished_at else "-"
        artifact, present = _artifact(row, environment["REPORTQUEUE_TOKEN"])
        good += row.status == Status.SUCCEEDED and present
        print(f"{title:<44} {row.status:<10} {seconds:>7}  {artifact}")
    print(f"\n{good} of {len(wanted)} reports succeeded", flush=True)
    return 0 if good == len(wanted) else 1


def _say_if_new(line: str, last: str) -> str:
    if line != last:
        print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
    return line


def _count(rows: list[ReportQueue], status: Status) -> int:
    return sum(row.status == status for row in rows)


def _counts() -> str:
    found = dict(ReportQueue.objects.values_list("status").annotate(count=Count("pk")))
    return "  ".join(f"{status.value} {found[status]}" for status in Status if status in found) or "no reports yet"


def _artifact(row: ReportQueue, token: str) -> tuple[str, bool]:
    """The page's address, and whether page and table are really there."""
    artifacts = (row.result or {}).get("artifacts") or {}
    if not artifacts:
        return (row.error.strip().splitlines() or ["no artifact"])[-1], False
    for url in artifacts.values():
        request = urllib.request.Request(url, headers={"Authorization": f"Token {token}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                if not answer.read():
                    return f"{url} is empty", False
        except (OSError, HTTPException) as error:
            return f"{url}: {error}", False
    return artifacts.get("report.html", next(iter(artifacts.values()))), True
