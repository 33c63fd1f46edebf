"""The sensors that evaluate schedules, in Dagster's own daemon code: one run for each firing, whatever dies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from dagster import AssetMaterialization, DagsterInstance, DagsterRunStatus
from dagster._core.scheduler.instigation import TickStatus

from dagster_reportqueue.assets import SCHEDULES, plan_of
from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.report_sensor import build_report_cron_sensor
from dagster_reportqueue.sensors.smart_sensor import build_smart_cron_sensor
from reportqueue.clock import database_now
from reportqueue.models import ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.conftest import allow_consumer
from tests.dagster_reportqueue.daemon import POINTS, Crash, Daemon, daemon
from tests.dagster_reportqueue.front import Fault, Front, Reply

SENSORS = {Pattern.CRON: "cron_sensor", Pattern.ASSET: "smart_sensor"}
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def may_view(token: str) -> None:
    """The consumer may view schedules, too."""
    allow_consumer("view_reportschedule")


@pytest.fixture(params=[Pattern.CRON, Pattern.ASSET])
def pattern(request: pytest.FixtureRequest) -> Pattern:
    return Pattern(request.param)


@pytest.fixture
def sensor(instance: DagsterInstance, pattern: Pattern) -> Iterator[Daemon]:
    with daemon(instance, SENSORS[pattern]) as running:
        yield running


def last_minute() -> datetime:
    """A firing of every schedule of these tests that lies safely in the past."""
    return (database_now() - 2 * MINUTE).replace(second=0, microsecond=0)


def hand_over(pattern: Pattern, *, minutes: int = 3) -> datetime:
    """As if the pattern's sensor had been given the firings so many minutes ago; the first of them."""
    last = last_minute()
    since = last - (minutes - 1) * MINUTE
    # Until before this minute: else the clock decides how many firings a test has.
    TriggerPeriod.objects.create(pattern=pattern, since=since, until=last + timedelta(seconds=1))
    return since


def build_schedule(**fields: Any) -> ReportSchedule:
    """Every minute, and last changed an hour ago."""
    schedule = ReportSchedule(**({"report_id": 1, "modifier_id": 2, "cron": "* * * * *"} | fields))
    schedule.save()
    ReportSchedule.objects.filter(pk=schedule.pk).update(timing_set_at=database_now() - 60 * MINUTE)
    return schedule


def settle(sensor: Daemon) -> None:
    """Tick until there is nothing more to do."""
    for _ in range(12):
        tick = sensor.tick()
        if tick.skip_reason is not None and "is due" in tick.skip_reason:
            return
    raise AssertionError("there is no end to it")


def each_firing_has_had_one_run(instance: DagsterInstance, instants: list[datetime], schedules: int = 1) -> bool:
    runs = [run for run in instance.get_runs() if run.job_name == "report_job"]
    rows = list(ReportQueue.objects.order_by("trigger_time"))
    assert [row.trigger_time for row in rows] == sorted(instants * schedules)
    assert {(row.status, row.attempt) for row in rows} == {(Status.SUCCEEDED, 1)}
    assert sorted(row.run_id for row in rows) == sorted(run.run_id for run in runs)
    assert {run.status for run in runs} == {DagsterRunStatus.SUCCESS}
    return True


def minutes_from(since: datetime, count: int) -> list[datetime]:
    return [since + n * MINUTE for n in range(count)]


def test_each_firing_since_the_hand_over_becomes_one_run(sensor: Daemon, pattern: Pattern):
    schedule = build_schedule(report_id=7, modifier_id=8, priority=5)
    since = hand_over(pattern)
    assert sensor.tick().status == TickStatus.SUCCESS
    assert each_firing_has_had_one_run(sensor.instance, minutes_from(since, 3))
    newest = sensor.instance.get_runs(limit=1)[0]
    instant = since + 2 * MINUTE
    assert newest.tags["dagster/run_key"] == f"report:7:8:{instant:%Y-%m-%dT%H:%M:%SZ}"
    assert {name: text for name, text in newest.tags.items() if name.startswith(("reportqueue/", "dagster/pri"))} == {
        "reportqueue/schedule_id": str(schedule.pk),
        "reportqueue/trigger_time": instant.isoformat(),
        "reportqueue/report_id": "7",
        "reportqueue/modifier_id": "8",
        "dagster/priority": "5",
    }
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, minutes_from(since, 3))


def test_more_than_a_tick_takes_is_made_in_order_over_several(sensor: Daemon, pattern: Pattern):
    for report in range(4):
        build_schedule(report_id=report)
    since = hand_over(pattern)
    sensor.tick()
    assert ReportQueue.objects.count() == 3, "the sensor's limit"
    assert set(ReportQueue.objects.values_list("trigger_time", flat=True)) == {since}, "the oldest first"
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, minutes_from(since, 3), schedules=4)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_tick_that_fails_anywhere_leaves_one_run_for_each_firing(
    sensor: Daemon, pattern: Pattern, point: str, times: int
):
    build_schedule()
    since = hand_over(pattern, minutes=2)
    for _ in range(times):
        sensor.tick(crash={point: Crash(point)})
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, minutes_from(since, 2))


@pytest.mark.parametrize("point", ["TICK_CREATED", "RUN_IDS_RESERVED", "RUN_CREATED"])
def test_a_daemon_that_is_killed_leaves_one_run_for_each_firing(
    instance: DagsterInstance, pattern: Pattern, point: str
):
    build_schedule()
    since = hand_over(pattern, minutes=2)
    command = [sys.executable, "-m", "tests.dagster_reportqueue.daemon", SENSORS[pattern], point]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    with daemon(instance, SENSORS[pattern]) as sensor:
        settle(sensor)
    assert each_firing_has_had_one_run(instance, minutes_from(since, 2))


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.DROP, Fault.LOSE, Reply(502), Reply(200, "<html>"), Reply(200, "{}"), Reply(200, "[]")),
        Reply(200, '{"version": "1", "periods": [{"since": "yesterday", "until": null}], "reports": []}'),
        Reply(200, '{"version": "1", "periods": [], "reports": [{"schedule_id": 1}]}'),
    ],
    ids=repr,
)
def test_a_tick_without_the_api_fails_and_loses_nothing(
    sensor: Daemon, front: Front, pattern: Pattern, fault: Fault | Reply
):
    build_schedule()
    since = hand_over(pattern)
    front.fail(fault, on=f"?pattern={pattern}")
    for _ in range(2):
        assert sensor.tick().status == TickStatus.FAILURE
        assert sensor.cursor is None
    front.heal()
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, minutes_from(since, 3))


def test_an_api_slower_than_the_time_out_fails_the_tick_and_loses_nothing(
    sensor: Daemon, front: Front, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
):
    def impatient(resource: ReportQueueResource, *, retries: int = 0) -> ReportQueueClient:
        return ReportQueueClient(resource.url, resource.token, retries=retries, read_timeout=0.3)

    monkeypatch.setattr(ReportQueueResource, "client", impatient)
    build_schedule()
    since = hand_over(pattern)
    front.fail(Fault.HANG, on=f"?pattern={pattern}")
    assert sensor.tick().status == TickStatus.FAILURE
    front.heal()
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, minutes_from(since, 3))


def test_a_late_tick_fires_nothing_from_before_an_edit(sensor: Daemon, pattern: Pattern):
    schedule = build_schedule()
    since = hand_over(pattern)
    edited = since + MINUTE
    ReportSchedule.objects.filter(pk=schedule.pk).update(timing_set_at=edited + timedelta(seconds=1))
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, [edited + MINUTE])


def test_two_schedules_of_one_report_at_one_instant_are_two_firings(sensor: Daemon, pattern: Pattern):
    build_schedule(params={"year": 2025})
    second = build_schedule(params={"year": 2026})
    since = hand_over(pattern, minutes=1)
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, [since], schedules=2)
    keys = sorted(run.tags["dagster/run_key"] for run in sensor.instance.get_runs())
    assert keys == [f"report:1:2:{since:%Y-%m-%dT%H:%M:%SZ}{end}" for end in ("", f":{second.pk}")]


def test_what_only_the_scheduler_can_fire_and_what_is_paused_is_left_alone(sensor: Daemon, pattern: Pattern):
    build_schedule(jitter_seconds=5)
    build_schedule(cron="", interval_seconds=60)
    paused = build_schedule()
    ReportSchedule.objects.filter(pk=paused.pk).update(enabled=False)
    hand_over(pattern)
    settle(sensor)
    assert sensor.instance.get_runs() == []


def test_firings_that_are_not_the_sensor_s_are_left_alone(sensor: Daemon, pattern: Pattern):
    build_schedule()
    settle(sensor)
    hand_over(next(other for other in SENSORS if other != pattern))
    settle(sensor)
    assert sensor.instance.get_runs() == []


def test_a_run_whose_firing_went_to_the_queue_meanwhile_ends_without_work(sensor: Daemon, pattern: Pattern):
    schedule = build_schedule()
    since = hand_over(pattern, minutes=1)
    row = ReportQueue.objects.create(
        schedule=schedule, report_id=1, modifier_id=2, trigger_time=since, available_at=since
    )
    sensor.tick()
    (run,) = sensor.instance.get_runs()
    assert run.status == DagsterRunStatus.SUCCESS
    row.refresh_from_db()
    assert row.status == Status.QUEUED


@pytest.mark.parametrize("cursor", ["garbage", "[]", "{}", '{"made": {"instant": "x", "schedule_id": 1}, "seen": "y"}'])
def test_a_cursor_that_makes_no_sense_makes_no_second_run(sensor: Daemon, pattern: Pattern, cursor: str):
    build_schedule()
    since = hand_over(pattern)
    settle(sensor)
    sensor.cursor = cursor
    settle(sensor)
    assert each_firing_has_had_one_run(sensor.instance, minutes_from(since, 3))


def test_what_was_missed_longer_ago_than_the_catch_up_is_not_made(sensor: Daemon, pattern: Pattern):
    build_schedule()
    hand_over(pattern)
    long_ago = database_now() - timedelta(days=3)
    sensor.cursor = json.dumps({"made": {"instant": long_ago.isoformat(), "schedule_id": 0}, "seen": 0})
    TriggerPeriod.objects.filter(pattern=pattern).update(since=None)
    ReportSchedule.objects.update(cron="0 0 1 1 *")
    sensor.tick()
    made = datetime.fromisoformat(json.loads(sensor.cursor or "")["made"]["instant"])
    assert made > database_now() - MINUTE


@pytest.mark.parametrize("build", [build_report_cron_sensor, build_smart_cron_sensor])
@pytest.mark.parametrize(("name", "value"), [("limit", 0), ("limit", 101), ("catch_up_seconds", 59)])
def test_a_bound_exceeded_is_refused(build: Any, name: str, value: int):
    with pytest.raises(ValueError, match=f"{name} must be from"):
        build(location.report_job, **{name: value})


class TestAsset:
    """What only the asset's sensor does."""

    @pytest.fixture
    def pattern(self) -> Pattern:
        return Pattern.ASSET

    def change(self, instance: DagsterInstance) -> None:
        """As the web app reports it."""
        told = AssetMaterialization(SCHEDULES, metadata={"version": "abc", "count": 1})
        instance.report_runless_asset_event(told)

    def asked(self, front: Front) -> int:
        return front.verbs().count("?pattern=asset")

    def test_between_changes_it_asks_nothing(self, sensor: Daemon, front: Front, pattern: Pattern):
        build_schedule()
        hand_over(pattern, minutes=1)
        settle(sensor)
        assert self.asked(front) == 1
        front.calls.clear()
        for _ in range(5):
            sensor.tick()
        assert front.calls == []
        build_schedule(report_id=5, cron="0 0 1 1 *")  # the web app is not asked, and nobody tells
        for _ in range(5):
            sensor.tick()
        assert front.calls == []
        self.change(sensor.instance)
        for _ in range(5):
            sensor.tick()
        assert self.asked(front) == 1, "once for a change"

    def test_what_it_reads_it_keeps_in_the_asset_for_who_comes_after_it(
        self, instance: DagsterInstance, front: Front, pattern: Pattern
    ):
        schedule = build_schedule(params={"secret": "s3cret"})
        since = hand_over(pattern, minutes=1)
        with daemon(instance, SENSORS[pattern]) as sensor:
            sensor.tick()
        event = instance.get_latest_materialization_event(SCHEDULES)
        assert event is not None
        assert event.asset_materialization is not None
        assert "s3cret" not in str(event)
        plan = plan_of(event.asset_materialization.metadata)
        assert plan is not None
        assert [planned.schedule_id for planned in plan.schedules] == [schedule.pk]
        front.calls.clear()
        # Another process has nothing in its memory. Nothing is due, so its tick comes to no run of which to die.
        command = [sys.executable, "-m", "tests.dagster_reportqueue.daemon", SENSORS[pattern], "RUN_CREATED"]
        said = subprocess.run(command, timeout=120, check=True, capture_output=True, text=True).stdout
        assert "None of 1 schedules is due" in said
        assert [(call.verb, "If-None-Match" in call.headers) for call in front.calls] == [("?pattern=asset", True)], (
            "it asks for the time, and whether the schedules it knows from the asset are still those"
        )
        assert each_firing_has_had_one_run(instance, [since])

    def test_a_change_that_came_while_it_read_is_read_too(self, sensor: Daemon, front: Front, pattern: Pattern):
        build_schedule()
        hand_over(pattern, minutes=1)
        self.change(sensor.instance)
        sensor.tick()
        # It lies before the plan that the sensor keeps, which does not know of it.
        plan = sensor.instance.get_latest_materialization_event(SCHEDULES)
        self.change(sensor.instance)
        assert plan is not None
        assert plan.asset_materialization is not None
        sensor.instance.report_runless_asset_event(plan.asset_materialization)
        front.calls.clear()
        sensor.tick()
        assert self.asked(front) == 1

    def test_the_daily_job_brings_what_nobody_told(self, sensor: Daemon, front: Front, pattern: Pattern):
        since = hand_over(pattern, minutes=1)
        settle(sensor)
        schedule = build_schedule()
        front.calls.clear()
        settle(sensor)
        assert sensor.instance.get_runs() == []
        job = location.defs.resolve_job_def("refresh_report_cron_schedules")
        assert job.execute_in_process(instance=sensor.instance).success
        assert self.asked(front) == 1, "the job"
        before = {"instant": (since - MINUTE).isoformat(), "schedule_id": schedule.pk}
        sensor.cursor = json.dumps({**json.loads(sensor.cursor or ""), "made": before})
        settle(sensor)
        assert self.asked(front) == 2, "and the sensor, for the time, before it fires"
        assert ReportQueue.objects.count() == 1

    def test_a_change_is_not_forgotten_when_the_tick_after_it_fails(
        self, sensor: Daemon, front: Front, pattern: Pattern
    ):
        hand_over(pattern, minutes=1)
        settle(sensor)
        self.change(sensor.instance)
        front.fail(Reply(503), on="?pattern=asset")
        assert sensor.tick().status == TickStatus.FAILURE
        front.heal()
        front.calls.clear()
        sensor.tick()
        assert self.asked(front) == 1
