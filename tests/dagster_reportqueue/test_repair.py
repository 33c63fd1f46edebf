"""Rows compared with Dagster's runs: what differs is repaired, what runs is left to its lease."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    Definitions,
    RunStatusSensorContext,
    SensorDefinition,
    SensorResult,
    build_run_status_sensor_context,
    build_sensor_context,
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test, instance_for_test
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from dagster_reportqueue.client import ApiRefused, ReportQueueClient
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors import failed_firings, reconciliation
from dagster_reportqueue.sensors.queue_sensor import build_queue_lanes, build_queue_sensor
from dagster_reportqueue.sensors.reconciliation import reconcile
from dagster_reportqueue.sensors.repair_sensors import build_repair_sensors
from dagster_reportqueue.sensors.ticks import TickFailed
from dagster_reportqueue.tickets import BATCH_TAG, FiringTicket, Ticket, batch_config
from reportqueue import queue, triggers
from reportqueue.models import ReportQueue, ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.conftest import ClientFactory, allow_consumer

SENSOR = "sensor"


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    config = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}}
    with instance_for_test(overrides=config) as made:
        yield made


@pytest.fixture(autouse=True)
def _may_view(token: str) -> None:
    allow_consumer("view_reportqueue")


@pytest.fixture
def client(make_client: ClientFactory, live_server: LiveServer) -> ReportQueueClient:
    return make_client(url=live_server.url)


def dispatched(**fields: object) -> ReportQueue:
    return build_row(**({"status": Status.DISPATCHED, "claimed_by": SENSOR} | fields))


def run_for(
    instance: DagsterInstance, row: ReportQueue, status: DagsterRunStatus, generation: int | None = None
) -> DagsterRun:
    return make_run(instance, status, Ticket(row.pk, generation or row.generation).tags())


def make_run(
    instance: DagsterInstance,
    status: DagsterRunStatus,
    tags: dict[str, str],
    config: dict[str, Any] | None = None,
    parent: str | None = None,
) -> DagsterRun:
    location = RegisteredCodeLocationOrigin("somewhere")  # a queued run says where its job is
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "report_job")
    return create_run_for_test(
        instance,
        job_name="report_job",
        status=status,
        tags=tags,
        run_config=config,
        remote_job_origin=origin,
        parent_run_id=parent,
        root_run_id=parent,
    )


def batch_for(instance: DagsterInstance, rows: list[ReportQueue], status: DagsterRunStatus) -> DagsterRun:
    config = batch_config(Ticket(row.pk, row.generation) for row in rows)
    return make_run(instance, status, {BATCH_TAG: SENSOR}, config)


def lease_left(row: ReportQueue) -> timedelta:
    row.refresh_from_db()
    assert row.lease_expires_at is not None
    return row.lease_expires_at - timezone.now()


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED])
def test_a_row_whose_run_waits_keeps_its_lease(
    instance: DagsterInstance, client: ReportQueueClient, status: DagsterRunStatus
):
    row = dispatched(lease_expires_at=minutes_ago(-1))
    run_for(instance, row, status)
    assert reconcile(instance, client, [SENSOR]).kept_waiting == 1
    assert lease_left(row) > timedelta(minutes=10)


@pytest.mark.parametrize("status", [DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED, DagsterRunStatus.SUCCESS])
def test_a_row_whose_run_ended_without_starting_it_is_launched_again(
    instance: DagsterInstance, client: ReportQueueClient, status: DagsterRunStatus
):
    row = dispatched()
    run = run_for(instance, row, status)
    assert reconcile(instance, client, [SENSOR]).launched_again == 1
    row.refresh_from_db()
    assert (row.status, row.attempt, row.launch_failures) == (Status.QUEUED, 0, 1)
    assert row.unstarted_runs == (status != DagsterRunStatus.CANCELED), "a person's doing is no reason to give up"
    assert run.run_id in row.error
    assert reconcile(instance, client, [SENSOR]).launched_again == 0


def test_rows_of_another_users_consumer_of_the_same_name_are_left_alone(
    instance: DagsterInstance, client: ReportQueueClient
):
    then = minutes_ago(10)
    theirs = [dispatched(api_user="another", dispatched_at=then) for _ in range(3)]
    run_for(instance, theirs[1], DagsterRunStatus.FAILURE)
    run_for(instance, theirs[2], DagsterRunStatus.QUEUED)
    before = list(ReportQueue.objects.order_by("pk").values())
    ours = dispatched(dispatched_at=then)
    done = reconcile(instance, client, [SENSOR])
    assert (done.compared, done.kept_waiting, done.launched_again) == (4, 0, 1)
    ours.refresh_from_db()
    assert ours.status == Status.QUEUED
    assert list(ReportQueue.objects.exclude(pk=ours.pk).order_by("pk").values()) == before


def test_a_row_whose_run_is_about_to_start_it_is_left_alone(instance: DagsterInstance, client: ReportQueueClient):
    row = dispatched()
    run_for(instance, row, DagsterRunStatus.STARTED)
    before = ReportQueue.objects.values().get()
    done = reconcile(instance, client, [SENSOR])
    assert (done.compared, done.kept_waiting, done.launched_again) == (1, 0, 0)
    assert ReportQueue.objects.values().get() == before


def test_a_row_that_dagster_dropped_is_launched_again_once_it_is_old_enough(
    instance: DagsterInstance, client: ReportQueueClient
):
    old, young = dispatched(dispatched_at=minutes_ago(2)), dispatched(dispatched_at=timezone.now())
    assert reconcile(instance, client, [SENSOR]).launched_again == 1
    old.refresh_from_db()
    young.refresh_from_db()
    assert (old.status, young.status) == (Status.QUEUED, Status.DISPATCHED)
    assert "no run" in old.error


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED])
def test_rows_whose_batch_waits_keep_their_leases(
    instance: DagsterInstance, client: ReportQueueClient, status: DagsterRunStatus
):
    rows = [dispatched(lease_expires_at=minutes_ago(-1), dispatched_at=minutes_ago(9)) for _ in range(3)]
    batch_for(instance, rows, status)
    done = reconcile(instance, client, [SENSOR])
    assert (done.kept_waiting, done.launched_again) == (3, 0)
    assert min(lease_left(row) for row in rows) > timedelta(minutes=10)


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])
def test_rows_of_a_batch_under_way_are_left_to_it(
    instance: DagsterInstance, client: ReportQueueClient, status: DagsterRunStatus
):
    rows = [dispatched(dispatched_at=minutes_ago(9)) for _ in range(2)]
    batch_for(instance, rows, status)
    before = list(ReportQueue.objects.order_by("pk").values())
    done = reconcile(instance, client, [SENSOR])
    assert (done.compared, done.kept_waiting, done.launched_again) == (2, 0, 0)
    assert list(ReportQueue.objects.order_by("pk").values()) == before


def test_rows_that_a_batch_left_behind_are_launched_again_and_no_others(
    instance: DagsterInstance, client: ReportQueueClient
):
    left = [dispatched(dispatched_at=minutes_ago(2)) for _ in range(2)]
    made, alone = build_row(status=Status.SUCCEEDED), dispatched(dispatched_at=minutes_ago(2))
    batch_for(instance, [made, *left], DagsterRunStatus.FAILURE)
    run_for(instance, alone, DagsterRunStatus.QUEUED)
    done = reconcile(instance, client, [SENSOR])
    assert (done.launched_again, done.kept_waiting) == (2, 1)
    for row in left:
        row.refresh_from_db()
        assert (row.status, row.attempt, row.launch_failures) == (Status.QUEUED, 0, 1)
    made.refresh_from_db()
    assert made.status == Status.SUCCEEDED


def test_a_batch_of_an_older_generation_is_not_the_rows(instance: DagsterInstance, client: ReportQueueClient):
    row = dispatched(generation=1)
    batch_for(instance, [row], DagsterRunStatus.QUEUED)
    ReportQueue.objects.update(generation=2, dispatched_at=minutes_ago(2))
    assert reconcile(instance, client, [SENSOR]).launched_again == 1


@pytest.mark.parametrize(("seconds", "kept"), [(15.0, 5), (0.0, 0)])
def test_with_more_batches_than_it_can_read_no_row_is_taken_for_one_without_a_run(
    instance: DagsterInstance, client: ReportQueueClient, monkeypatch: pytest.MonkeyPatch, seconds: float, kept: int
):
    monkeypatch.setattr(reconciliation, "BATCH_RUNS", 2)
    monkeypatch.setattr(reconciliation, "BATCH_SECONDS", seconds)
    rows = [dispatched(dispatched_at=minutes_ago(2)) for _ in range(5)]
    for row in rows:
        batch_for(instance, [row], DagsterRunStatus.QUEUED)
    done = reconcile(instance, client, [SENSOR])
    assert (done.kept_waiting, done.launched_again) == (kept, 0)


def test_a_waiting_batch_is_cancelled_once_nobody_wants_any_of_its_rows(
    instance: DagsterInstance, client: ReportQueueClient
):
    cancelled = [build_row(status=Status.CANCELLED, generation=1) for _ in range(2)]
    again = build_row(generation=1)
    unwanted = batch_for(instance, cancelled, DagsterRunStatus.QUEUED)
    wanted = batch_for(instance, [*cancelled, dispatched()], DagsterRunStatus.QUEUED)
    queued = batch_for(instance, [*cancelled, again], DagsterRunStatus.QUEUED)
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 1
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses == {
        unwanted.run_id: DagsterRunStatus.CANCELED,
        wanted.run_id: DagsterRunStatus.QUEUED,
        queued.run_id: DagsterRunStatus.QUEUED,
    }


def test_rows_of_every_lane_are_compared(instance: DagsterInstance, client: ReportQueueClient):
    rows = [dispatched(claimed_by=lane, dispatched_at=minutes_ago(2)) for lane in ("lane", "lane_2", "elsewhere")]
    assert reconcile(instance, client, ["lane", "lane_2"]).launched_again == 2
    assert [ReportQueue.objects.get(pk=row.pk).status for row in rows] == [Status.QUEUED] * 2 + [Status.DISPATCHED]


def test_a_run_of_an_older_generation_is_not_the_rows(instance: DagsterInstance, client: ReportQueueClient):
    row = dispatched(generation=2)
    run_for(instance, row, DagsterRunStatus.FAILURE, generation=1)
    run_for(instance, row, DagsterRunStatus.QUEUED, generation=2)
    done = reconcile(instance, client, [SENSOR])
    assert (done.kept_waiting, done.launched_again) == (1, 0)


def test_a_running_row_is_left_to_its_lease_whatever_dagster_says(instance: DagsterInstance, client: ReportQueueClient):
    row = build_row(status=Status.RUNNING, claimed_by=SENSOR)
    run_for(instance, row, DagsterRunStatus.FAILURE)
    before = ReportQueue.objects.values().get()
    assert reconcile(instance, client, [SENSOR]).compared == 0
    assert ReportQueue.objects.values().get() == before


def test_rows_of_another_consumer_are_not_touched(instance: DagsterInstance, client: ReportQueueClient):
    row = dispatched(claimed_by="elsewhere", dispatched_at=minutes_ago(20))
    assert reconcile(instance, client, [SENSOR]).compared == 0
    row.refresh_from_db()
    assert row.status == Status.DISPATCHED


def test_a_waiting_run_of_a_row_that_nobody_wants_is_cancelled(instance: DagsterInstance, client: ReportQueueClient):
    cancelled, wanted, foreign = build_row(status=Status.CANCELLED, generation=1), dispatched(), uuid4().int >> 70
    unwanted = run_for(instance, cancelled, DagsterRunStatus.QUEUED)
    waits = run_for(instance, wanted, DagsterRunStatus.QUEUED)
    pruned = make_run(instance, DagsterRunStatus.QUEUED, Ticket(foreign, 1).tags())
    other = make_run(instance, DagsterRunStatus.QUEUED, {})
    assert reconcile(instance, client, [SENSOR]).runs_cancelled == 2
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses == {
        unwanted.run_id: DagsterRunStatus.CANCELED,
        pruned.run_id: DagsterRunStatus.CANCELED,
        waits.run_id: DagsterRunStatus.QUEUED,
        other.run_id: DagsterRunStatus.QUEUED,
    }


def test_more_rows_than_a_page_are_all_compared(instance: DagsterInstance, client: ReportQueueClient):
    template = dispatched(dispatched_at=timezone.now())
    fields = {
        field.name: getattr(template, field.name)
        for field in ReportQueue._meta.fields
        if field.name not in ("id", "processed", "created_at")
    }
    ReportQueue.objects.bulk_create(ReportQueue(**fields) for _ in range(1_200))
    assert reconcile(instance, client, [SENSOR]).compared == 1_201


def test_a_consumer_that_may_not_view_is_told(instance: DagsterInstance, client: ReportQueueClient):
    User.objects.get(username="dagster").user_permissions.remove(Permission.objects.get(codename="view_reportqueue"))
    with pytest.raises(ApiRefused, match=r"reportqueue\.view_reportqueue, which this user does not have"):
        reconcile(instance, client, [SENSOR])


def sensor_named(name: str) -> SensorDefinition:
    return next(one for one in build_repair_sensors(consumers=[SENSOR]) if one.name == name)


def test_by_default_the_rows_of_all_queue_sensors_of_the_location_are_compared(
    instance: DagsterInstance, resource: ReportQueueResource
):
    for consumer in ("lane", "lane_2", "invoices", "elsewhere"):
        run_for(instance, dispatched(claimed_by=consumer), DagsterRunStatus.FAILURE)
    reconciler = next(one for one in build_repair_sensors() if one.name == "report_reconciler")
    defs = Definitions(
        sensors=[
            *build_queue_lanes(location.report_job, name="lane", lanes=2),
            build_queue_sensor(location.report_job, name="other", consumer="invoices"),
            reconciler,
        ],
        resources={"report_queue": resource},
    )
    with build_sensor_context(
        instance=instance, repository_def=defs.get_repository_def(), resources={"report_queue": resource}
    ) as context:
        result = reconciler(context)
    assert isinstance(result, SensorResult)
    said = str(result.skip_reason.skip_message)
    assert said.startswith("3 dispatched rows compared: 0 have a waiting run, 3 launched again;")
    assert ReportQueue.objects.get(status=Status.DISPATCHED).claimed_by == "elsewhere"


def end_of(instance: DagsterInstance, run: DagsterRun, resource: ReportQueueResource) -> RunStatusSensorContext:
    event = instance.all_logs(run.run_id)[-1].dagster_event
    assert event is not None
    return build_run_status_sensor_context(
        sensor_name="x",
        dagster_instance=instance,
        dagster_run=run,
        dagster_event=event,
        resources={"report_queue": resource},
    )


@pytest.fixture
def resource(live_server: LiveServer, token: str) -> ReportQueueResource:
    return ReportQueueResource(url=live_server.url, token=token)


def failed_run(instance: DagsterInstance, row: ReportQueue) -> DagsterRun:
    run = create_run_for_test(
        instance, job_name="report_job", status=DagsterRunStatus.STARTING, tags=Ticket(row.pk, row.generation).tags()
    )
    instance.report_run_failed(run, "the image could not be pulled")
    return run


def test_a_run_that_failed_before_it_started_its_row_is_reported(
    instance: DagsterInstance, resource: ReportQueueResource
):
    row = dispatched()
    run = failed_run(instance, row)
    sensor_named("report_launch_failed")(end_of(instance, run, resource))
    row.refresh_from_db()
    assert (row.status, row.attempt, row.launch_failures, row.unstarted_runs) == (Status.QUEUED, 0, 1, 1)
    assert "image could not be pulled" in row.error


def test_a_run_that_a_person_cancelled_before_it_started_its_row_does_not_count(
    instance: DagsterInstance, resource: ReportQueueResource
):
    row = dispatched()
    tags = Ticket(row.pk, row.generation).tags()
    run = create_run_for_test(instance, job_name="report_job", status=DagsterRunStatus.STARTING, tags=tags)
    instance.report_run_canceled(run)
    sensor_named("report_launch_cancelled")(end_of(instance, run, resource))
    row.refresh_from_db()
    assert (row.status, row.launch_failures, row.unstarted_runs) == (Status.QUEUED, 1, 0)


def test_a_batch_that_failed_before_it_started_some_of_its_rows_is_reported_for_those(
    instance: DagsterInstance, resource: ReportQueueResource
):
    made, running = build_row(status=Status.SUCCEEDED), build_row(status=Status.RUNNING)
    left = [dispatched() for _ in range(2)]
    before = list(ReportQueue.objects.filter(pk__in=[made.pk, running.pk]).order_by("pk").values())
    run = batch_for(instance, [made, running, *left], DagsterRunStatus.STARTING)
    instance.report_run_failed(run, "the image could not be pulled")
    said = sensor_named("report_launch_failed")(end_of(instance, run, resource))
    assert "Of 4 rows" in str(said)
    assert "2 had started" in str(said)
    for row in left:
        row.refresh_from_db()
        assert (row.status, row.attempt, row.launch_failures) == (Status.QUEUED, 0, 1)
        assert "image could not be pulled" in row.error
    assert list(ReportQueue.objects.filter(pk__in=[made.pk, running.pk]).order_by("pk").values()) == before


@pytest.mark.parametrize("status", [Status.RUNNING, Status.SUCCEEDED, Status.CANCELLED])
def test_the_end_of_a_run_whose_row_started_or_ended_changes_nothing(
    instance: DagsterInstance, resource: ReportQueueResource, status: Status
):
    row = build_row(status=status, generation=1)
    run = failed_run(instance, row)
    before = ReportQueue.objects.values().get()
    sensor_named("report_launch_failed")(end_of(instance, run, resource))
    assert ReportQueue.objects.values().get() == before


def test_the_end_of_a_run_after_its_report_failed_uses_up_nothing_more(
    instance: DagsterInstance, resource: ReportQueueResource
):
    row = dispatched()
    started = queue.start(row.pk, generation=1, run_id="x")
    queue.fail(row.pk, lease_token=started.lease_token, error="boom")
    before = ReportQueue.objects.values().get()
    sensor_named("report_launch_failed")(end_of(instance, failed_run(instance, row), resource))
    assert ReportQueue.objects.values().get() == before


def failed_firing(instance: DagsterInstance, status: DagsterRunStatus = DagsterRunStatus.FAILURE) -> DagsterRun:
    """The run of a firing of a schedule's last full minute, which ended before it began."""
    TriggerPeriod.objects.create(pattern=Pattern.CRON)
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="* * * * *")
    schedule.save()
    ReportSchedule.objects.update(timing_set_at=minutes_ago(5))
    instant = minutes_ago(1).replace(second=0, microsecond=0)
    tags = FiringTicket(schedule.pk, instant).tags()
    run = create_run_for_test(instance, job_name="report_job", status=DagsterRunStatus.STARTING, tags=tags)
    if status == DagsterRunStatus.FAILURE:
        instance.report_run_failed(run, "the image could not be pulled")
    else:
        instance.report_run_canceled(run)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    return ended


def test_a_firing_whose_run_failed_before_it_began_is_queued_once(
    instance: DagsterInstance, resource: ReportQueueResource
):
    run = failed_firing(instance)
    for _ in range(2):
        said = sensor_named("report_launch_failed")(end_of(instance, run, resource))
    row = ReportQueue.objects.get()
    assert (row.status, row.report_id, row.attempt) == (Status.QUEUED, 1, 0)
    assert f"row {row.pk}" in str(said)


def test_a_firing_whose_report_failed_stays_as_its_run_left_it(
    instance: DagsterInstance, resource: ReportQueueResource
):
    run = failed_firing(instance)
    firing = FiringTicket.of_run(run.tags)
    assert firing is not None
    row = triggers.start_firing(firing.schedule_id, firing.trigger_time, run_id=run.run_id)
    sensor_named("report_launch_failed")(end_of(instance, run, resource))
    assert ReportQueue.objects.get().status == Status.RUNNING, "its lease decides"
    queue.fail(row.pk, lease_token=row.lease_token, error="boom")
    sensor_named("report_launch_failed")(end_of(instance, run, resource))
    assert ReportQueue.objects.get().status == Status.FAILED


def test_a_firing_whose_waiting_run_a_person_cancelled_is_not_made(
    instance: DagsterInstance, resource: ReportQueueResource
):
    run = failed_firing(instance, DagsterRunStatus.CANCELED)
    said = sensor_named("report_launch_cancelled")(end_of(instance, run, resource))
    assert "so its report is not made" in str(said)
    assert not ReportQueue.objects.exists()


def test_a_firing_that_is_none_any_more_is_left(instance: DagsterInstance, resource: ReportQueueResource):
    run = failed_firing(instance)
    ReportSchedule.objects.all().delete()
    assert "had no report to make" in str(sensor_named("report_launch_failed")(end_of(instance, run, resource)))


def reconciled(instance: DagsterInstance, resource: ReportQueueResource, cursor: str | None = None) -> SensorResult:
    """One tick of the reconciler of a location without queue sensors."""
    (reconciler,) = (one for one in build_repair_sensors(consumers=()) if one.name == "report_reconciler")
    with build_sensor_context(instance, cursor=cursor, resources={"report_queue": resource}) as context:
        result = reconciler(context)
    assert isinstance(result, SensorResult)
    return result


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_firings, "SETTLED", timedelta(0))


@pytest.mark.usefixtures("_at_once")
def test_a_firing_whose_failed_run_could_not_be_reported_is_found_by_the_reconciler(
    instance: DagsterInstance, resource: ReportQueueResource, token: str
):
    began = reconciled(instance, resource)
    run = failed_firing(instance)
    nowhere = ReportQueueResource(url="http://127.0.0.1:9", token=token)
    with pytest.raises(TickFailed, match="does not answer"):
        sensor_named("report_launch_failed")(end_of(instance, run, nowhere))
    with pytest.raises(TickFailed, match="does not answer"):
        reconciled(instance, nowhere, began.cursor)
    assert not ReportQueue.objects.exists()

    found = reconciled(instance, resource, began.cursor)
    assert "1 firings whose run failed are queued" in str(found.skip_reason)
    assert ReportQueue.objects.get().status == Status.QUEUED
    ReportQueue.objects.all().delete()
    assert "No run of a firing" in str(reconciled(instance, resource, found.cursor).skip_reason)
    assert not ReportQueue.objects.exists(), "it was looked at again"


@pytest.mark.usefixtures("_at_once")
def test_the_reconciler_leaves_firings_whose_run_had_begun_or_was_cancelled_and_other_peoples_runs(
    instance: DagsterInstance, resource: ReportQueueResource
):
    firing = FiringTicket.of_run(failed_firing(instance).tags)
    assert firing is not None
    triggers.start_firing(firing.schedule_id, firing.trigger_time, run_id="begun")
    other = create_run_for_test(instance, job_name="somebody_elses", status=DagsterRunStatus.STARTED)
    instance.report_run_failed(other)
    tags = FiringTicket(firing.schedule_id, firing.trigger_time - timedelta(minutes=1)).tags()
    cancelled = create_run_for_test(instance, job_name="report_job", status=DagsterRunStatus.STARTING, tags=tags)
    instance.report_run_canceled(cancelled)
    reconciled(instance, resource)
    assert ReportQueue.objects.get().status == Status.RUNNING


@pytest.mark.usefixtures("_at_once")
def test_more_failed_runs_than_it_looks_at_are_looked_at_next_time(
    instance: DagsterInstance, resource: ReportQueueResource, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(failed_firings, "RUNS", 2)
    for _ in range(5):
        instance.report_run_failed(create_run_for_test(instance, status=DagsterRunStatus.STARTED))
    failed_firing(instance)
    cursor = None
    for _ in range(6):
        cursor = reconciled(instance, resource, cursor).cursor
    assert ReportQueue.objects.get().status == Status.QUEUED


def test_a_run_that_failed_just_now_is_left_to_the_sensor_that_hears_of_it(
    instance: DagsterInstance, resource: ReportQueueResource
):
    failed_firing(instance)
    cursor = reconciled(instance, resource, "not a cursor of its own").cursor
    assert cursor is not None
    looked_until = datetime.fromisoformat(json.loads(cursor)["looked_until"])
    assert looked_until <= datetime.now(UTC) - timedelta(seconds=59), "it would never see it"
    assert not ReportQueue.objects.exists()


def test_other_peoples_runs_are_none_of_its_business(instance: DagsterInstance, resource: ReportQueueResource):
    run = create_run_for_test(instance, job_name="somebody_elses", status=DagsterRunStatus.STARTED)
    instance.report_run_failed(run)
    said = sensor_named("report_launch_failed")(end_of(instance, run, resource))
    assert "Not a run of the report queue" in str(said)


def test_an_api_that_is_down_fails_the_tick_in_one_line_and_the_reconciler_finds_the_row(
    instance: DagsterInstance, token: str, client: ReportQueueClient
):
    row = dispatched()
    run = failed_run(instance, row)
    nowhere = ReportQueueResource(url="http://127.0.0.1:9", token=token)
    with pytest.raises(TickFailed, match="does not answer"):
        sensor_named("report_launch_failed")(end_of(instance, run, nowhere))
    with pytest.raises(TickFailed, match="does not answer"):
        sensor_named("report_reconciler")(build_sensor_context(instance, resources={"report_queue": nowhere}))
    assert reconcile(instance, client, [SENSOR]).launched_again == 1


def test_the_reconcilers_tick_says_what_it_did(instance: DagsterInstance, resource: ReportQueueResource):
    run_for(instance, dispatched(), DagsterRunStatus.FAILURE)
    said = sensor_named("report_reconciler")(build_sensor_context(instance, resources={"report_queue": resource}))
    assert "1 dispatched rows compared" in str(said)
    assert "1 launched again" in str(said)
