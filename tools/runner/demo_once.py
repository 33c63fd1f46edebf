"""`run.py demo --once`: requests the demo's reports, waits for them, and prints the result of each."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any

from django.db import Error, connection

from project import demo_reports, reports
from reportqueue import queue, triggers
from reportqueue.clock import database_now
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.patterns import SENSOR_FIRED, Pattern
from reportqueue.states import Status
from tools.runner import demo_outgoing
from tools.runner.demo_watch import NO_DATABASE, POLL_SECONDS, Line

LEAD_SECONDS = 3
"""The schedules are created at least this long before they are due."""
HTTP_SECONDS = 10


def run(check: Callable[[], None], environment: dict[str, str], timeout: float) -> int:
    """Request the demo's reports, wait for them, and print the results; returns 0 only if all succeeded.

    It also shows a mail of an alert, the webhooks about these reports, and the metrics: all three must be there.

    With the patterns `cron` and `asset`, every report is requested by a schedule that is due at the next full minute.
    With the other patterns, one report is requested by a schedule, and the rest are enqueued.
    """
    pattern = triggers.current().pattern
    count = len(demo_reports.ONCE)
    wanted = _by_schedules(demo_reports.ONCE[: None if pattern in SENSOR_FIRED else 1])
    new = [queue.NewReport(**entry) for entry in demo_reports.ONCE[len(wanted.schedules) :]]
    wanted.rows = [done.row.pk for done in queue.enqueue_many(new)]
    outgoing = demo_outgoing.begin(pattern, environment)
    print(
        f"{count} reports by the pattern {pattern}, {len(wanted.schedules)} of them by a schedule due at "
        f"{wanted.instant:%H:%M:%S} UTC.",
        flush=True,
    )
    until = time.monotonic() + timeout
    line = Line()
    found: list[_Made] = []
    told = False
    while True:
        check()
        try:
            found = list(_made(wanted.found(), pattern, environment))
            line.say(_progress(found, count))
            ended = len(found) == count and all(one.ended for one in found)
            told = ended and outgoing.look([one.row.pk for one in found if one.good])
        except Error:
            line.say(NO_DATABASE)
        if told or time.monotonic() > until:
            break
        connection.close()
        time.sleep(POLL_SECONDS)
    good = _report(found, environment["REPORTQUEUE_TOKEN"])
    for _ in range(count - len(found)):
        print("A report whose schedule did not fire in time")
    outgoing.report()
    print(f"\n{good} of {count} reports succeeded", flush=True)
    if good < count or not told:
        return 1
    # Without this, the schedules would fire again in a year.
    ReportSchedule.objects.filter(pk__in=wanted.schedules).delete()
    for thread in threading.enumerate():
        # These threads notify Dagster of the change, and Dagster is stopped next.
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(HTTP_SECONDS)
    return 0


@dataclass
class _Wanted:
    """The requested reports: enqueued rows, and schedules that fire at `instant`."""

    instant: datetime
    schedules: list[int]
    rows: list[int] = field(default_factory=list)

    def found(self) -> list[ReportQueue]:
        fired = ReportQueue.objects.filter(schedule__in=self.schedules, trigger_time=self.instant)
        return [*fired.order_by("pk"), *ReportQueue.objects.filter(pk__in=self.rows).order_by("pk")]


def _by_schedules(entries: list[dict[str, Any]]) -> _Wanted:
    soon = database_now() + timedelta(seconds=LEAD_SECONDS)
    instant = soon.replace(second=0, microsecond=0) + timedelta(minutes=1)
    made = []
    for entry in entries:
        schedule = ReportSchedule(**entry, cron=f"{instant:%-M %-H %-d %-m} *", timezone="UTC")
        schedule.full_clean()
        schedule.save()
        made.append(schedule.pk)
    return _Wanted(instant, made)


@dataclass(frozen=True)
class _Made:
    """A report's row and state; if the queue does not follow the run, the state comes from Dagster."""

    row: ReportQueue
    status: str
    ended: datetime | None
    artifacts: dict[str, str]

    @property
    def good(self) -> bool:
        return self.status == Status.SUCCEEDED and self.ended is not None


def _made(rows: list[ReportQueue], pattern: Pattern, environment: dict[str, str]) -> Iterator[_Made]:
    if pattern != Pattern.POLLING:
        for row in rows:
            yield _Made(row, row.status, row.finished_at, (row.result or {}).get("artifacts") or {})
        return
    # With the pattern `polling`, the queue does not know how a run ended: ask Dagster.
    runs = _runs(environment["DAGSTER_URL"])
    for row in rows:
        run = runs.get(row.run_key or "") if row.processed else None
        if run is None or run["status"] not in ("SUCCESS", "FAILURE", "CANCELED"):
            yield _Made(row, "launched" if run else row.status, None, {})
            continue
        ended = datetime.fromtimestamp(run["endTime"], UTC)
        base = f"{environment['REPORTQUEUE_URL']}/artifacts/{run['runId']}/{row.pk}"
        artifacts = {name: f"{base}/{name}" for name in ("report.html", "report.csv")}
        status = Status.SUCCEEDED if run["status"] == "SUCCESS" else Status.FAILED
        yield _Made(row, status, ended, artifacts)


def _runs(dagster_url: str) -> dict[str, dict[str, Any]]:
    """The polling sensor's newest runs by run key; empty while Dagster's UI does not answer."""
    tag = '{key: "dagster/sensor_name", value: "webhook_trigger_sensor"}'
    wanted = "runId status endTime tags {key value}"
    query = f"{{runsOrError(filter: {{tags: [{tag}]}}, limit: 100) {{... on Runs {{results {{{wanted}}}}}}}}}"
    body, headers = json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{dagster_url}/graphql", data=body, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:  # noqa: S310
            runs = json.load(answer)["data"]["runsOrError"]["results"]
        return {tag["value"]: run for run in runs for tag in run["tags"] if tag["key"] == "dagster/run_key"}
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return {}


def _progress(found: list[_Made], count: int) -> str:
    statuses = [one.status for one in found]
    named = [f"{status} {statuses.count(status)}" for status in [*Status.values, "launched"] if status in statuses]
    if count > len(found):
        named.append(f"not due yet {count - len(found)}")
    return "  ".join(named)


def _report(found: list[_Made], token: str) -> int:
    """Print a line for each report; return how many succeeded and have their files."""
    print()
    names = {entry.report_id: entry for entry in reports.catalog()}
    good = 0
    for one in found:
        row, entry = one.row, names[one.row.report_id]
        title = f"{entry.name}: {entry.modifiers[row.modifier_id]}"
        seconds = f"{(one.ended - row.trigger_time).total_seconds():.1f} s" if one.ended else "-"
        artifact, present = _artifact(one, token)
        good += one.good and present
        print(f"{title:<44} {one.status:<10} {seconds:>7}  {artifact}")
    return good


def _artifact(one: _Made, token: str) -> tuple[str, bool]:
    """The page's address, and whether both page and table can be downloaded."""
    if not one.artifacts:
        return (one.row.error.strip().splitlines() or ["no artifact"])[-1], False
    for url in one.artifacts.values():
        request = urllib.request.Request(url, headers={"Authorization": f"Token {token}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:  # noqa: S310
                if not answer.read():
                    return f"{url} is empty", False
        except (OSError, HTTPException) as error:
            return f"{url}: {error}", False
    return one.artifacts.get("report.html", next(iter(one.artifacts.values()))), True
