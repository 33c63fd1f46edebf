"""The road between the patterns, there and back: each firing once, by the pattern that it belonged to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from reportqueue import schedules
from reportqueue.clock import database_now
from reportqueue.models import ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.dagster_reportqueue.conftest import allow_consumer
from tests.dagster_reportqueue.daemon import POINTS, Crash, Daemon, daemon

SENSORS = {
    Pattern.CRON: "cron_sensor",
    Pattern.ASSET: "smart_sensor",
    Pattern.QUEUE: "report_sensor",
    Pattern.POLLING: "polling_sensor",
}
ROAD = [Pattern.CRON, Pattern.ASSET, Pattern.QUEUE, Pattern.ASSET, Pattern.CRON]
STRETCH = 2
"""Minutes that each pattern has the firings."""
SCHEDULES = 3
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def may_view(token: str) -> None:
    """The consumer may view schedules and rows, too."""
    allow_consumer("view_reportschedule")
    allow_consumer("view_reportqueue")


@pytest.fixture
def sensors(instance: DagsterInstance) -> Iterator[dict[Pattern, Daemon]]:
    with ExitStack() as stack:
        yield {pattern: stack.enter_context(daemon(instance, name)) for pattern, name in SENSORS.items()}


def lay_out(road: list[Pattern]) -> dict[datetime, Pattern]:
    """As if there had been these hand-overs in the last minutes; each firing's instant with its owner."""
    begin = database_now().replace(second=0, microsecond=0) - (len(road) * STRETCH + 1) * MINUTE
    owners: dict[datetime, Pattern] = {}
    for number, pattern in enumerate(road):
        since = begin + number * STRETCH * MINUTE
        TriggerPeriod.objects.create(
            pattern=pattern,
            # A firing at the very instant of the hand-over is the new pattern's.
            since=since,
            until=since + STRETCH * MINUTE,
        )
        owners |= {since + minute * MINUTE: pattern for minute in range(STRETCH)}
    for report in range(SCHEDULES):
        ReportSchedule(report_id=report, modifier_id=1, cron="* * * * *").save()
    before = begin - timedelta(seconds=1)
    ReportSchedule.objects.update(next_run_at=begin, planned_from=before, timing_set_at=before)
    return owners


def travel(sensors: dict[Pattern, Daemon], chance: random.Random, expected: int) -> None:
    """Tick all sensors and the scheduler in any order, some ticks dying, until every firing is there and is done."""
    for _ in range(60):
        for pattern in chance.sample([*sensors, None], k=len(sensors) + 1):
            if pattern is None:
                schedules.enqueue_due()
            else:
                point = chance.choice(POINTS)
                sensors[pattern].tick(crash={point: Crash(point)} if chance.random() < 0.3 else None)
        if ReportQueue.objects.filter(status=Status.SUCCEEDED).count() == expected:
            break
    for sensor in sensors.values():
        sensor.tick()


def test_each_firing_on_the_way_to_the_queue_and_back_is_made_once_and_by_its_owner(
    instance: DagsterInstance, sensors: dict[Pattern, Daemon]
):
    owners = lay_out(ROAD)
    wanted = {(report, instant) for report in range(SCHEDULES) for instant in owners}
    travel(sensors, random.Random(1), len(wanted))
    rows = list(ReportQueue.objects.all())
    assert sorted((row.report_id, row.trigger_time) for row in rows) == sorted(wanted)
    assert {(row.status, row.attempt) for row in rows} == {(Status.SUCCEEDED, 1)}
    runs = {run.run_id: run for run in instance.get_runs() if run.job_name == "report_job"}
    assert {run.status for run in runs.values()} == {DagsterRunStatus.SUCCESS}
    made_by = {row: runs[row.run_id].tags["dagster/sensor_name"] for row in rows}
    assert made_by == {row: SENSORS[owners[row.trigger_time]] for row in rows}
    assert len(runs) == len(rows), "no run for nothing"


def test_each_firing_between_the_queue_and_polling_has_one_run(
    instance: DagsterInstance, sensors: dict[Pattern, Daemon]
):
    owners = lay_out([Pattern.CRON, Pattern.POLLING, Pattern.QUEUE])
    wanted = SCHEDULES * len(owners)
    travel(sensors, random.Random(3), wanted)
    rows = list(ReportQueue.objects.all())
    assert (len(rows), {row.status for row in rows}) == (wanted, {Status.SUCCEEDED})
    runs = [run for run in instance.get_runs() if run.job_name == "report_job"]
    assert len(runs) == wanted
