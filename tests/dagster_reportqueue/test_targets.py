"""Which job, partition and tags a row's run gets; a row for which that fails is reported, and the others are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    SensorResult,
    StaticPartitionsDefinition,
    build_sensor_context,
)
from dagster._core.scheduler.instigation import TickStatus

from dagster_reportqueue.jobs import build_batch_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import build_queue_lanes, build_queue_sensor, report_data_config
from dagster_reportqueue.testing import InMemoryQueue
from dagster_reportqueue.tickets import tickets_of
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.daemon import Crash, Daemon, daemon
from tests.dagster_reportqueue.front import Front


@pytest.fixture
def sensor(instance: DagsterInstance) -> Iterator[Daemon]:
    """Several jobs; batches from four rows on."""
    with daemon(instance, "choosing_sensor") as running:
        yield running


def row(minutes: float = 1, **params: Any) -> ReportQueue:
    return build_row(available_at=minutes_ago(minutes), params=params)


def run_of(instance: DagsterInstance, row: ReportQueue) -> DagsterRun:
    (run,) = [run for run in instance.get_runs() if row.pk in {ticket.queue_id for ticket in tickets_of(run)}]
    return run


def test_each_row_gets_the_job_the_partition_and_the_tags_that_its_functions_choose(sensor: Daemon):
    chosen = {"team": "sales", "dagster/max_runtime": "60", "dagster-celery/queue": "fast"}
    plain = row(3, job="report", tags=chosen)
    static = row(2, job="partitioned_job", partition="2026")
    dynamic = row(1, job="customer", partition="Ärzte & Söhne")
    assert sensor.tick().status == TickStatus.SUCCESS
    found = [run_of(sensor.instance, one) for one in (plain, static, dynamic)]
    assert [(run.job_name, run.tags.get("dagster/partition"), run.status) for run in found] == [
        ("report_job", None, DagsterRunStatus.SUCCESS),
        ("partitioned_job", "2026", DagsterRunStatus.SUCCESS),
        ("customer_job", "Ärzte & Söhne", DagsterRunStatus.SUCCESS),
    ]
    assert (found[0].tags["team"], found[0].tags["dagster/max_runtime"]) == ("sales", "60")
    assert found[0].tags["dagster-celery/queue"] == "fast"
    assert found[0].tags["reportqueue/queue_id"] == str(plain.pk)
    assert sensor.instance.get_dynamic_partitions("customers") == ["Ärzte & Söhne"]
    dynamic.refresh_from_db()
    assert dynamic.result == {"rows": 3, "partition": "Ärzte & Söhne"}, "the report's code is given the partition"


BAD = [
    ({"job": "nightly"}, "the sensor's job failed for this row: ValueError: 'nightly' is none of the sensor's jobs: "),
    ({}, "the sensor's job failed for this row: KeyError: 'job'"),
    ({"job": "customer"}, "each run of the job customer_job needs a partition, and it returned None"),
    ({"job": "customer", "do": "no partition"}, "partition_key failed for this row: LookupError: the customer is"),
    ({"job": "customer", "do": "exit"}, "partition_key failed for this row: SystemExit: 3"),
    ({"job": "customer", "do": "no text"}, "partition_key failed for this row: Unspeakable: its text cannot be shown"),
    ({"job": "report", "tags": {"a": "x", "from_code": "nul"}}, "the value of the tag from_code has NUL characters"),
    ({"job": "report", "tags": {"from_code": "half"}}, "the value of the tag from_code has NUL characters or lone"),
    ({"job": "customer", "partition": 7}, "TypeError: it must return a text or None, not int"),
    ({"job": "customer", "partition": ""}, "a key of a dynamic partition has 1 to 200 printable characters"),
    ({"job": "customer", "partition": "x" * 201}, "a key of a dynamic partition has 1 to 200 printable characters"),
    ({"job": "customer", "partition": "a\nb"}, "a key of a dynamic partition has 1 to 200 printable characters"),
    ({"job": "customer", "partition": "a...b"}, "a key of a dynamic partition has 1 to 200 printable characters"),
    ({"job": "partitioned_job", "partition": "1999"}, "the job partitioned_job has no partition '1999'"),
    ({"job": "report", "partition": "2026"}, "the job report_job has no partitions, so it takes None"),
    ({"job": "report", "tags": {"reportqueue/queue_id": "1"}}, "the tag reportqueue/queue_id is set by the sensor"),
    ({"job": "report", "tags": {"dagster/run_key": "1"}}, "the tag dagster/run_key is set by the sensor or by Dagster"),
    ({"job": "report", "tags": {".dagster/x": "1"}}, "the tag .dagster/x is set by the sensor or by Dagster"),
    ({"job": "report", "tags": {"a b": "1"}}, "the tag 'a b' needs a name of letters"),
    ({"job": "report", "tags": {"a": 1}}, "TypeError: the tag 'a' and its value must be texts"),
    ({"job": "report", "tags": {"a": "1" * 4_097}}, "the tag a may have 4,096 characters, not 4,097"),
    ({"job": "report", "tags": {f"t{n}": "" for n in range(21)}}, "a run may have 20 further tags, not 21"),
]


def test_a_row_that_cannot_be_launched_is_reported_with_the_reason_and_the_others_are_made(sensor: Daemon):
    bad = [row(60 - n, **params) for n, (params, _) in enumerate(BAD)]
    good = row(job="customer", partition="Meier")
    assert sensor.tick().status == TickStatus.SUCCESS
    for one, (params, said) in zip(bad, BAD, strict=True):
        one.refresh_from_db()
        assert (one.status, one.attempt, one.unstarted_runs) == (Status.QUEUED, 0, 1), params
        assert said in one.error, params
    assert run_of(sensor.instance, good).status == DagsterRunStatus.SUCCESS
    assert len(sensor.instance.get_runs()) == 1
    assert sensor.instance.get_dynamic_partitions("customers") == ["Meier"]


def test_a_row_whose_partition_never_exists_fails_in_the_end(sensor: Daemon, settings: Any):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0, "MAX_UNSTARTED_RUNS": 2}
    one = row(job="partitioned_job", partition="1999")
    for _ in range(3):
        sensor.tick()
    one.refresh_from_db()
    assert (one.status, one.attempt, sensor.instance.get_runs()) == (Status.FAILED, 0, [])
    assert "has no partition '1999'" in one.error
    assert "MAX_UNSTARTED_RUNS" in one.error


@pytest.mark.parametrize("point", ["TICK_HELD", "RUN_CREATED"])
def test_a_tick_that_dies_leaves_one_run_in_its_new_partition(sensor: Daemon, point: str):
    row(job="customer", partition="Meier")
    sensor.tick(crash={point: Crash(point)})
    for _ in range(3):
        sensor.tick()
    (run,) = sensor.instance.get_runs()
    assert (run.tags["dagster/partition"], run.status) == ("Meier", DagsterRunStatus.SUCCESS)
    assert sensor.instance.get_dynamic_partitions("customers") == ["Meier"]


def test_rows_share_a_run_only_if_job_partition_and_tags_are_the_same(sensor: Daemon):
    meier = [row(60 - n, job="customer", partition="Meier") for n in range(3)]
    schulz = [row(50 - n, job="customer", partition="Schulz") for n in range(2)]
    tagged = row(40, job="customer", partition="Schulz", tags={"team": "sales"})
    others = [row(30 - n, job="report") for n in range(2)]
    assert sensor.tick().status == TickStatus.SUCCESS
    runs = [
        (run.job_name, run.tags.get("dagster/partition"), [ticket.queue_id for ticket in tickets_of(run)])
        for run in sensor.instance.get_runs(ascending=True)
    ]
    assert runs == [
        ("customer_batch_job", "Meier", [one.pk for one in meier]),
        ("customer_batch_job", "Schulz", [one.pk for one in schulz]),
        ("customer_job", "Schulz", [tagged.pk]),
        *[("report_job", None, [one.pk]) for one in others],  # the batch job has partitions, and these rows have none
    ]
    assert set(ReportQueue.objects.values_list("status", flat=True)) == {Status.SUCCEEDED}
    assert {one.result["partition"] for one in ReportQueue.objects.filter(pk__in=[one.pk for one in meier])} == {
        "Meier"
    }


def test_a_tick_claims_no_more_rows_than_it_may_launch_runs_if_all_may_differ(front: Front, token: str):
    row(job="report")
    with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance) as context:
        location.choosing_sensor(context, report_queue=ReportQueueResource(url=front.url, token=token))
    assert [call.body["limit"] for call in front.calls if call.verb == "claim"] == [100]


@pytest.mark.parametrize(
    ("job", "key", "said"),
    [
        (location.customer_job, "a\nb", "a key of a dynamic partition has 1 to 200 printable characters"),
        (location.customer_job, None, "each run of the job customer_job needs a partition"),
        (location.partitioned_job, "1999", "the job partitioned_job has no partition '1999'"),
        (location.customer_job, "Meier", ""),
        (location.customer_asset_job, "a\nb", ""),  # nothing knows the partitions of its asset
    ],
)
def test_keys_are_checked_without_a_code_location_if_the_job_knows_its_partitions(job: Any, key: Any, said: str):
    queue = InMemoryQueue()
    row = queue.add(1, 1)
    config = report_data_config if job is location.customer_job else None
    sensor = build_queue_sensor(job, name="rows", run_config=config, partition_key=lambda item: key)
    with DagsterInstance.ephemeral() as instance:
        resources = {"report_queue": queue.resource()}
        result = sensor(build_sensor_context(instance=instance, resources=resources))
    assert isinstance(result, SensorResult)
    assert said in row.error
    assert [request.partition_key for request in result.run_requests or []] == ([] if said else [key])
    added = [(one.partitions_def_name, one.partition_keys) for one in result.dynamic_partitions_requests or []]
    assert added == ([("customers", ["Meier"])] if key == "Meier" else [])


@pytest.mark.parametrize(
    ("job", "options", "said"),
    [
        (location.job_of, {}, "job is a function: name in jobs all jobs that it may return"),
        (location.report_job, {"jobs": [location.own_job]}, "With jobs, job must be a function"),
        (location.job_of, {"jobs": [location.report_job, location.partitioned_job]}, "has partitions, and the sensor"),
    ],
)
def test_arguments_that_cannot_work_are_refused(job: Any, options: dict[str, Any], said: str):
    for build in (build_queue_sensor, build_queue_lanes):
        with pytest.raises(ValueError, match=said):
            build(job, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"job": location.report_job}, "has a partition_key, and none of its jobs has partitions: leave it out"),
        (
            {"job": location.customer_job, "batch_job": location.batch_job, "max_in_flight": 50},
            "The batch job batch_job has other partitions than the jobs whose rows",
        ),
        (
            {
                "job": location.customer_job,
                "batch_job": build_batch_job(
                    location.make, name="batch_job", partitions_def=StaticPartitionsDefinition(["a"])
                ),
                "max_in_flight": 50,
            },
            "The batch job batch_job has other partitions than the jobs whose rows",
        ),
    ],
)
def test_partitions_that_do_not_fit_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        build_queue_sensor(**options, partition_key=location.partition_of)
