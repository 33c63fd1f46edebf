"""Dagster's clock is minutes ahead of the database's, or behind: what is due is decided by the database's alone.

The clock of this whole process is moved: Dagster's, its sensors' and the web app's. The database is another process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from dagster import AssetMaterialization, DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.test_utils import create_run_for_test
from django.db import transaction
from django.utils import timezone

from dagster_reportqueue.assets import SCHEDULES
from dagster_reportqueue.client import ReportQueueClient, TooEarly
from dagster_reportqueue.sensors import failed_firings
from dagster_reportqueue.sensors.database_clock import DatabaseClock
from dagster_reportqueue.sensors.failed_firings import queue_failed_firings
from dagster_reportqueue.sensors.reconciliation import reconcile
from dagster_reportqueue.sensors.stray_runs import StrayRuns
from dagster_reportqueue.tickets import FiringTicket, Ticket
from reportqueue import queue
from reportqueue.clock import database_now
from reportqueue.models import ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import build_row
from tests.dagster_reportqueue import front
from tests.dagster_reportqueue.conftest import ClientFactory, allow_consumer
from tests.dagster_reportqueue.daemon import Daemon, daemon

MINUTE = timedelta(minutes=1)
MOST_SECONDS = 8
"""A test that must not see a minute begin takes less."""
SENSORS = {Pattern.CRON: "cron_sensor", Pattern.ASSET: "smart_sensor"}
SKEWS = [timedelta(seconds=40), timedelta(minutes=7), timedelta(seconds=-40), timedelta(minutes=-7)]


@pytest.fixture(params=SKEWS, ids=lambda skew: f"{skew.total_seconds():+.0f}s")
def skew(request: pytest.FixtureRequest) -> Iterator[timedelta]:
    """How far Dagster's clock is ahead of the database's."""
    with time_machine.travel(datetime.now().astimezone() + request.param):
        yield request.param


@pytest.fixture(autouse=True)
def may_view(token: str) -> None:
    """The consumer may view schedules and rows, too."""
    allow_consumer("view_reportschedule")
    allow_consumer("view_reportqueue")


@pytest.fixture(params=list(SENSORS))
def pattern(request: pytest.FixtureRequest) -> Pattern:
    return Pattern(request.param)


def build_schedule(changed_at: datetime, **fields: Any) -> ReportSchedule:
    """Every minute, last changed at this instant."""
    schedule = ReportSchedule(**({"report_id": 1, "modifier_id": 2, "cron": "* * * * *"} | fields))
    schedule.save()
    ReportSchedule.objects.filter(pk=schedule.pk).update(timing_set_at=changed_at)
    return schedule


def this_minute() -> datetime:
    return database_now().replace(second=0, microsecond=0)


@pytest.fixture
def _early_in_the_minute() -> None:
    """No minute begins while the test runs: of that minute's firing, it would be chance whose it is."""
    left = 60 - database_now().second
    if left <= MOST_SECONDS:
        time.sleep(left)


def minutes(after: datetime, until: datetime) -> list[datetime]:
    """The full minutes after an instant and up to another one."""
    first = after.replace(second=0, microsecond=0) + MINUTE
    return [first + n * MINUTE for n in range(max(0, (until - first) // MINUTE + 1))]


def made(sensor: Daemon) -> datetime:
    return datetime.fromisoformat(json.loads(sensor.cursor or "")["made"]["instant"])


def settle(sensor: Daemon) -> None:
    for _ in range(12):
        tick = sensor.tick()
        assert tick.status != TickStatus.FAILURE, tick.error
        if tick.skip_reason is not None and "is due" in tick.skip_reason:
            return
    raise AssertionError("there is no end to it")


def each_run_has_a_row(instance: DagsterInstance) -> list[datetime]:
    """The instants of the firings, in order; each has one row and one run, and no run has none."""
    runs = [run for run in instance.get_runs() if run.job_name == "report_job"]
    rows = list(ReportQueue.objects.order_by("trigger_time"))
    assert sorted(run.run_id for run in runs) == sorted(row.run_id for row in rows)
    assert {row.status for row in rows} <= {Status.SUCCEEDED}
    return [row.trigger_time for row in rows]


def test_a_sensor_fires_what_is_due_by_the_databases_clock(
    skew: timedelta, instance: DagsterInstance, pattern: Pattern
):
    build_schedule(this_minute() - 60 * MINUTE)
    since = this_minute() - 2 * MINUTE
    TriggerPeriod.objects.create(pattern=pattern, since=since)
    with daemon(instance, SENSORS[pattern]) as sensor:
        before = database_now()
        settle(sensor)
        after = database_now()
    fired = each_run_has_a_row(instance)
    assert minutes(since - MINUTE, before) <= fired <= minutes(since - MINUTE, after)


def test_a_sensor_that_finds_nothing_due_is_as_far_as_the_databases_clock(
    skew: timedelta, instance: DagsterInstance, pattern: Pattern
):
    """Were it further, it would pass over the first firings of a schedule that is added now."""
    TriggerPeriod.objects.create(pattern=pattern, since=this_minute() - 2 * MINUTE)
    with daemon(instance, SENSORS[pattern]) as sensor:
        before = database_now()
        sensor.tick()
        assert before <= made(sensor) <= database_now()
        sensor.tick()
        assert before <= made(sensor) <= database_now()


def test_the_queues_sensors_launch_what_is_due_by_the_databases_clock(skew: timedelta, instance: DagsterInstance):
    now = database_now()
    due = build_row(trigger_time=now - MINUTE, available_at=now)
    coming = build_row(trigger_time=now + 5 * MINUTE, available_at=now + 5 * MINUTE)
    with daemon(instance, "report_sensor") as sensor:
        sensor.tick()
    assert list(ReportQueue.objects.filter(status=Status.SUCCEEDED)) == [due]
    ReportQueue.objects.filter(pk=due.pk).delete()
    polled = build_row(trigger_time=now - MINUTE, available_at=now)
    with daemon(instance, "polling_sensor") as sensor:
        sensor.tick()
        sensor.tick()
    assert list(ReportQueue.objects.filter(status=Status.SUCCEEDED)) == [polled]
    coming.refresh_from_db()
    assert coming.status == Status.QUEUED


def test_a_row_without_a_run_is_lost_after_a_minute_of_the_databases_clock(
    skew: timedelta, instance: DagsterInstance, make_client: ClientFactory
):
    now = database_now()
    new, old = (build_row(status=Status.DISPATCHED, dispatched_at=now - n * MINUTE) for n in (0, 2))
    assert reconcile(instance, make_client(), ["sensor"]).launched_again == 1
    new.refresh_from_db(), old.refresh_from_db()
    assert (new.status, old.status) == (Status.DISPATCHED, Status.QUEUED)


@pytest.mark.parametrize("skewed", SKEWS, ids=lambda skew: f"{skew.total_seconds():+.0f}s")
def test_a_run_of_a_worker_whose_clock_is_off_has_its_time_to_notice_that_it_is_late(
    instance: DagsterInstance, make_client: ClientFactory, skewed: timedelta
):
    row = build_row(status=Status.DISPATCHED)
    with time_machine.travel(datetime.now().astimezone() + skewed):
        tags = Ticket(row.pk, row.generation).tags()
        run = create_run_for_test(instance, job_name="report_job", status=DagsterRunStatus.STARTING, tags=tags)
        instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_START.value, "report_job"), run.run_id)
    (record,) = instance.get_run_records()
    assert record.start_time is not None
    assert abs(record.start_time - time.time() - skewed.total_seconds()) < 30
    queue.start(row.pk, generation=1, run_id="quicker")
    assert StrayRuns().end(instance, make_client()) == 0


class TestLateCommits:
    """A change counts from an instant shortly before its commit: a tick in between must not pass it over."""

    def test_a_schedule_that_is_committed_after_a_tick_has_its_first_firings(
        self, instance: DagsterInstance, pattern: Pattern
    ):
        build_schedule(this_minute() - 60 * MINUTE, report_id=7, cron="0 0 1 1 *")
        TriggerPeriod.objects.create(pattern=pattern, since=this_minute() - 60 * MINUTE)
        with daemon(instance, SENSORS[pattern]) as sensor:
            settle(sensor)
            begun = database_now() - 2 * MINUTE

            with transaction.atomic():
                build_schedule(begun)
                # The web app reads the schedules by another connection: this one has not committed.
                settle(sensor)
                assert not instance.get_runs()
            changed(instance, pattern)
            before = database_now()
            settle(sensor)
            fired = each_run_has_a_row(instance)
            assert minutes(begun, before) <= fired <= minutes(begun, database_now())
            settle(sensor)

    @pytest.mark.usefixtures("_early_in_the_minute")
    @pytest.mark.parametrize("restarted", [False, True])
    def test_a_hand_over_that_is_committed_after_a_tick_loses_no_firing(
        self, instance: DagsterInstance, pattern: Pattern, restarted: bool
    ):
        build_schedule(this_minute() - 60 * MINUTE)
        with daemon(instance, SENSORS[pattern]) as sensor:
            settle(sensor)
            since = this_minute()
            if restarted:
                data = {**json.loads(sensor.cursor or ""), "plan": "of another process"}
                data["made"] = {"instant": (since + timedelta(seconds=1)).isoformat(), "schedule_id": 0}
                sensor.cursor = json.dumps(data)
            TriggerPeriod.objects.create(pattern=pattern, since=since, until=since + MINUTE)
            changed(instance, pattern)
            settle(sensor)
            assert each_run_has_a_row(instance) == [since]

    def test_what_is_known_is_not_requested_again_after_a_change(self, instance: DagsterInstance, pattern: Pattern):
        build_schedule(this_minute() - 60 * MINUTE)
        since = this_minute() - 2 * MINUTE
        TriggerPeriod.objects.create(pattern=pattern, since=since, until=since + 2 * MINUTE)
        with daemon(instance, SENSORS[pattern]) as sensor:
            settle(sensor)
            assert each_run_has_a_row(instance) == [since, since + MINUTE]
            build_schedule(database_now(), report_id=8, cron="0 0 1 1 *")
            changed(instance, pattern)
            tick = sensor.tick()
            assert (tick.run_ids, tick.skip_reason) == ([], "None of 2 schedules is due.")


def changed(instance: DagsterInstance, pattern: Pattern) -> None:
    """As the web app tells Dagster after the commit."""
    if pattern == Pattern.ASSET:
        told = AssetMaterialization(SCHEDULES, metadata={"version": "abc", "count": 1})
        instance.report_runless_asset_event(told)


class TestTooEarly:
    """A database whose clock was set back, for instance by a failover: no firing is lost."""

    def test_a_run_of_a_firing_that_is_still_to_come_may_ask_again(self, make_client: ClientFactory):
        schedule = build_schedule(this_minute() - 60 * MINUTE)
        TriggerPeriod.objects.create(pattern=Pattern.CRON)
        with pytest.raises(TooEarly, match="still to come"):
            make_client().start_firing(schedule.pk, trigger_time=this_minute() + 2 * MINUTE, run_id="r")
        assert not ReportQueue.objects.exists()

    def test_a_failed_run_of_such_a_firing_is_looked_at_until_it_is_queued(
        self, instance: DagsterInstance, make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(failed_firings, "SETTLED", timedelta(0))
        schedule = build_schedule(this_minute() - 60 * MINUTE)
        TriggerPeriod.objects.create(pattern=Pattern.CRON)
        coming, past = this_minute() + 5 * MINUTE, this_minute()
        for instant in (coming, past):
            tags = FiringTicket(schedule.pk, instant).tags()
            run = create_run_for_test(instance, job_name="report_job", status=DagsterRunStatus.STARTED, tags=tags)
            instance.report_run_failed(run)
        client: ReportQueueClient = make_client()
        found, until = queue_failed_firings(instance, client, None)
        assert (found, [row.trigger_time for row in ReportQueue.objects.all()]) == (1, [past])
        found, _ = queue_failed_firings(instance, client, until)
        assert found == 1, "both runs are looked at again"


class TestTheAssetsClock:
    """The sensor that asks nothing between changes."""

    def test_it_asks_before_it_fires_and_when_it_does_not_know_the_time(self):
        clock = DatabaseClock(100)
        assert clock.estimate() is None
        now = timezone.now() + 7 * MINUTE
        clock.set(now)
        told = clock.estimate()
        assert told is not None
        assert now <= told < now + MINUTE
        for jump in (-5 * MINUTE, 5 * MINUTE):
            with time_machine.travel(datetime.now().astimezone() + jump):
                assert clock.estimate() is None, "the machine slept, or its clock was set"
        assert DatabaseClock(0, clock._told).estimate() is None, "too long ago"


def test_an_answer_without_the_time_fails_the_tick(
    instance: DagsterInstance, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(front, "PASSED_ON", ("Content-Type",))
    with daemon(instance, SENSORS[pattern]) as sensor:
        tick = sensor.tick()
    assert tick.status == TickStatus.FAILURE
    assert tick.error is not None
    assert "Reportqueue-Time" in tick.error.to_string()
