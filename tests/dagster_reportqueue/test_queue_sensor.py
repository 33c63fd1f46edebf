"""The queue sensor in Dagster's own daemon code: each row becomes one run, wherever a tick dies."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from dagster import DagsterInstance, DagsterRunStatus, build_sensor_context
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus

from dagster_reportqueue.client import client
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.instances import deployment_of
from dagster_reportqueue.sensors.queue_sensor import build_queue_sensor
from dagster_reportqueue.sensors.ticks import TickFailed
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.daemon import POINTS, Crash, Daemon, daemon
from tests.dagster_reportqueue.front import Fault, Front, Reply


@pytest.fixture
def sensor(instance: DagsterInstance) -> Iterator[Daemon]:
    with daemon(instance) as running:
        yield running


def run_keys(instance: DagsterInstance) -> list[str]:
    return sorted(run.tags["dagster/run_key"] for run in instance.get_runs())


def message(tick: InstigatorTick) -> str:
    """What a person sees first."""
    assert tick.status == TickStatus.FAILURE
    assert tick.error is not None
    assert tick.error.cause is not None
    assert tick.error.cause.cause is None, "what lies behind it is noise"
    return tick.error.cause.message


def each_row_has_had_one_run(instance: DagsterInstance) -> bool:
    runs = instance.get_runs()
    rows = list(ReportQueue.objects.all())
    assert len(runs) == len(rows)
    assert {run.status for run in runs} == {DagsterRunStatus.SUCCESS}
    assert [(row.status, row.generation, row.attempt) for row in rows] == [(Status.SUCCEEDED, 1, 1)] * len(rows)
    assert run_keys(instance) == sorted(f"{row.pk}:1" for row in rows)
    assert {row.run_id for row in rows} == {run.run_id for run in runs}
    return True


def settle(sensor: Daemon) -> None:
    """Tick until there is nothing more to do."""
    for _ in range(6):
        if sensor.tick().status == TickStatus.SKIPPED:
            return
    raise AssertionError("there is no end to it")


def test_each_row_becomes_one_run_and_the_next_tick_finds_nothing_due(sensor: Daemon, front: Front):
    rows = [build_row(report_id=7, modifier_id=8, priority=priority) for priority in (5, 0, -5)]
    tick = sensor.tick()
    assert tick.status == TickStatus.SUCCESS
    assert each_row_has_had_one_run(sensor.instance)
    (run,) = sensor.instance.get_runs(limit=1)  # the newest
    assert {name: run.tags[name] for name in run.tags if name.startswith("reportqueue/")} == {
        "reportqueue/queue_id": str(rows[-1].pk),
        "reportqueue/generation": "1",
        "reportqueue/report_id": "7",
        "reportqueue/modifier_id": "8",
    }
    assert (run.tags["dagster/priority"], run.tags["dagster/max_retries"]) == ("-5", "0")
    cursor = sensor.cursor
    tick = sensor.tick()
    assert (tick.status, tick.skip_reason) == (TickStatus.SKIPPED, "No report is due.")
    assert sensor.cursor == cursor
    claims = [call.body for call in front.calls if call.verb == "claim"]
    common = {
        "consumer": "report_sensor",
        "limit": 25,
        "wait_seconds": 0.1,
        "max_in_flight": 50,
        "deployment": deployment_of(sensor.instance),
    }
    assert claims == [common, common | {"ack": cursor}]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_tick_that_fails_anywhere_leaves_one_run_for_each_row(sensor: Daemon, point: str, times: int):
    for _ in range(2):
        build_row()
    for _ in range(times):
        sensor.tick(crash={point: Crash(point)})
    settle(sensor)
    assert each_row_has_had_one_run(sensor.instance)
    build_row()
    assert sensor.tick().status == TickStatus.SUCCESS, "and it goes on"
    assert each_row_has_had_one_run(sensor.instance)


@pytest.mark.parametrize(
    ("point", "status"),
    [("TICK_CREATED", Status.QUEUED), ("RUN_IDS_RESERVED", Status.CLAIMED), ("RUN_CREATED", Status.CLAIMED)],
)
def test_a_daemon_that_is_killed_leaves_one_run_for_each_row(instance: DagsterInstance, point: str, status: Status):
    for _ in range(2):
        build_row()
    command = [sys.executable, "-m", "tests.dagster_reportqueue.daemon", "report_sensor", point]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert set(ReportQueue.objects.values_list("status", flat=True)) == {status}
    with daemon(instance) as sensor:
        assert [tick.status for tick in sensor.ticks()] == [TickStatus.STARTED]
        settle(sensor)
    assert each_row_has_had_one_run(instance)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.LOSE, Reply(502), Reply(401), Reply(200, "<html>")], ids=repr)
def test_a_tick_without_the_api_fails_with_one_line_and_loses_nothing(
    sensor: Daemon, front: Front, fault: Fault | Reply
):
    build_row()
    sensor.tick()
    cursor = sensor.cursor
    build_row()
    front.fail(fault)
    front.calls.clear()
    for _ in range(3):
        said = message(sensor.tick())
        assert re.fullmatch(
            r"dagster_reportqueue\S+TickFailed: http://\S+/claim/ (does not answer|answered) .*\n", said
        )
        assert sensor.cursor == cursor
    assert front.verbs() == ["claim"] * 3, "the next tick is the retry"
    front.heal()
    assert sensor.tick().status == TickStatus.SUCCESS
    assert each_row_has_had_one_run(sensor.instance)


def test_an_api_slower_than_the_time_out_fails_the_tick_and_loses_nothing(
    sensor: Daemon, front: Front, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    build_row()
    front.fail(Fault.HANG)
    assert "does not answer" in message(sensor.tick())
    front.heal()
    settle(sensor)
    assert each_row_has_had_one_run(sensor.instance)


def test_a_wrong_token_fails_the_tick_with_a_hint(sensor: Daemon, monkeypatch: pytest.MonkeyPatch, token: str):
    build_row()
    monkeypatch.setenv("REPORTQUEUE_TOKEN", "0123456789abcdef")
    said = message(sensor.tick())
    assert "answered 401" in said
    assert said.endswith("check REPORTQUEUE_TOKEN\n")
    assert "0123456789abcdef" not in said
    assert sensor.cursor is None
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    sensor.tick()
    assert each_row_has_had_one_run(sensor.instance)


@pytest.mark.parametrize(("name", "value"), [("REPORTQUEUE_URL", "localhost:8000"), ("REPORTQUEUE_TOKEN", "a b")])
def test_a_setting_that_makes_no_sense_fails_the_tick_by_its_name(
    sensor: Daemon, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)
    assert f"TickFailed: {name} " in message(sensor.tick())


def test_a_cursor_that_makes_no_sense_is_no_claim(sensor: Daemon):
    build_row()
    sensor.tick()
    sensor.cursor = "garbage"
    build_row()
    assert sensor.tick().status == TickStatus.SUCCESS
    assert each_row_has_had_one_run(sensor.instance)
    assert sensor.cursor == str(ReportQueue.objects.last().claim_id)


@pytest.mark.parametrize("cursor", [None, "", "00000000-0000-0000-0000-000000000000"])
def test_a_cursor_that_a_person_resets_makes_no_second_run(sensor: Daemon, cursor: str | None):
    # Rows that nobody starts: their runs are there, and the claim is not acknowledged yet.
    sensor.instance.run_launcher.launch_run = lambda context: None  # type: ignore[method-assign]
    for _ in range(2):
        build_row()
    sensor.tick()
    keys = run_keys(sensor.instance)
    sensor.cursor = cursor
    sensor.tick()
    assert run_keys(sensor.instance) == keys
    assert set(ReportQueue.objects.values_list("status", "generation")) == {(Status.CLAIMED, 1)}
    assert sensor.tick().status == TickStatus.SKIPPED
    assert set(ReportQueue.objects.values_list("status", flat=True)) == {Status.DISPATCHED}
    assert run_keys(sensor.instance) == keys


def test_a_row_that_is_offered_again_gets_a_new_run(sensor: Daemon, settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0}
    row = build_row(params={"do": "raise"}, max_attempts=2)
    for _ in range(4):
        sensor.tick()
    row.refresh_from_db()
    assert (row.status, row.generation, row.attempt) == (Status.FAILED, 2, 2)
    assert run_keys(sensor.instance) == [f"{row.pk}:1", f"{row.pk}:2"]


def test_a_run_that_is_launched_late_finds_the_row_taken(sensor: Daemon):
    """The tick is interrupted for longer than the claim's lease; another consumer has made the report meanwhile."""
    row = build_row()
    sensor.tick(crash={"RUN_IDS_RESERVED": Crash()})
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    with daemon(sensor.instance, "own_sensor") as other:
        other.tick()
        row.refresh_from_db()
        assert (row.status, row.generation, row.claimed_by) == (Status.SUCCEEDED, 2, "own")
    ReportQueue.objects.update(error="")
    sensor.tick()
    assert run_keys(sensor.instance) == [f"{row.pk}:1", f"{row.pk}:2"]
    row.refresh_from_db()
    assert (row.status, row.attempt, row.attempts.count()) == (Status.SUCCEEDED, 1, 1)


def test_anybodys_own_job_is_launched_without_run_config(instance: DagsterInstance):
    build_row(params={"year": 2026})
    with daemon(instance, "own_sensor") as own:
        own.tick()
    assert each_row_has_had_one_run(instance)
    (run,) = instance.get_runs()
    assert (run.job_name, run.run_config, run.tags["dagster/max_retries"]) == ("own_job", {}, "0")


def test_an_asset_job_is_launched(instance: DagsterInstance):
    build_row()
    with daemon(instance, "asset_sensor") as assets:
        assert assets.tick().status == TickStatus.SUCCESS
    (run,) = instance.get_runs()
    assert (run.job_name, run.status) == ("asset_job", DagsterRunStatus.SUCCESS)


@pytest.mark.parametrize(
    ("params", "said"),
    [({}, "KeyError: 'year'"), ({"year": "two thousand"}, "DagsterInvalidConfigError")],
    ids=["raises", "invalid"],
)
def test_a_row_whose_run_config_is_no_good_does_not_hold_up_the_others(
    instance: DagsterInstance, params: dict[str, str], said: str
):
    bad = build_row(params=params, priority=1)
    good = build_row(params={"year": 2026})
    with daemon(instance, "year_sensor") as years:
        assert years.tick().status == TickStatus.SUCCESS
        assert years.tick().status == TickStatus.SKIPPED
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.status, bad.status, bad.attempt, bad.launch_failures) == (Status.SUCCEEDED, Status.QUEUED, 0, 1)
    assert said in bad.error
    assert run_keys(instance) == [f"{good.pk}:1"]


def test_a_tick_of_nothing_but_bad_run_configs_is_skipped(instance: DagsterInstance):
    build_row()
    with daemon(instance, "year_sensor") as years:
        tick = years.tick()
    assert (tick.status, instance.get_runs()) == (TickStatus.SKIPPED, [])
    assert tick.skip_reason == "No run could be requested for these rows; their errors are in the queue."


def test_it_can_be_evaluated_by_hand(front: Front, token: str):
    row = build_row()
    with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance) as context:
        result = location.report_sensor(context, report_queue=ReportQueueResource(url=front.url, token=token))
        (request,) = result.run_requests
    row.refresh_from_db()
    assert (request.run_key, result.cursor) == (f"{row.pk}:1", str(row.claim_id))
    assert request.run_config == {
        "ops": {"report_data": {"config": {"report_id": 1, "modifier_id": 2, "queue_id": row.pk, "generation": 1}}}
    }


def test_by_hand_too_an_api_that_is_down_is_one_line():
    with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance) as context:
        resource = ReportQueueResource(url="http://127.0.0.1:9", token="token")
        with pytest.raises(TickFailed, match="does not answer") as error:
            location.report_sensor(context, report_queue=resource)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_a_limit_beyond_its_bounds_is_refused(limit: int):
    with pytest.raises(ValueError, match="limit must be from 1 to 100"):
        build_queue_sensor(location.report_job, limit=limit)


@pytest.mark.parametrize("seconds", [-0.1, 25.1, float("nan")])
def test_a_wait_beyond_its_bounds_is_refused(seconds: float):
    with pytest.raises(ValueError, match="wait_seconds must be from 0 to 25"):
        build_queue_sensor(location.report_job, wait_seconds=seconds)


@pytest.mark.parametrize("options", [{"limit": 1}, {"limit": 100}, {"wait_seconds": 25}, {"wait_seconds": 0}])
def test_the_bounds_themselves_are_fine(options: dict[str, int]):
    assert build_queue_sensor(location.report_job, **options).name == "database_queue_sensor"
