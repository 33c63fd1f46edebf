"""Reports as assets: a report that is made materializes its partition once, and no other report materializes any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    ExecuteInProcessResult,
    MetadataValue,
    StaticPartitionsDefinition,
)

from dagster_reportqueue.client import QueueItem
from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.report_assets import build_report_asset
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import Ticket
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Source, Status
from tests.conftest import build_row, build_schedule
from tests.dagster_reportqueue.daemon import POINTS, Crash, Daemon, daemon
from tests.dagster_reportqueue.runs import Runner, the_row

REPORT, SUMMARY = AssetKey("customer_report"), AssetKey("customer_summary")
YEAR = AssetKey(["reports", "year"])


def materializations(instance: DagsterInstance, key: AssetKey = REPORT) -> list[AssetMaterialization]:
    """The newest first."""
    found = [record.asset_materialization for record in instance.fetch_materializations(key, limit=10).records]
    return [one for one in found if one is not None]


@pytest.fixture
def sensor(instance: DagsterInstance) -> Iterator[Daemon]:
    with daemon(instance, "asset_report_sensor") as running:
        yield running


def test_a_row_materializes_its_partition_and_what_depends_on_it(sensor: Daemon):
    schedule = build_schedule()
    row = build_row(report_id=7, modifier_id=8, schedule=schedule, params={"partition": "Meier"})
    for _ in range(2):
        sensor.tick()
    (made,) = materializations(sensor.instance)
    assert made.partition == "Meier"
    assert made.metadata == {
        "result": MetadataValue.json({"rows": 3, "partition": "Meier"}),
        "reportqueue/queue_id": MetadataValue.int(row.pk),
        "reportqueue/report_id": MetadataValue.int(7),
        "reportqueue/modifier_id": MetadataValue.int(8),
        "reportqueue/schedule_id": MetadataValue.int(schedule.pk),
        "reportqueue/attempt": MetadataValue.int(1),
        "reportqueue/source": MetadataValue.text(Source.CODE),
        "reportqueue/trigger_time": MetadataValue.timestamp(row.trigger_time),
    }
    assert [one.partition for one in materializations(sensor.instance, SUMMARY)] == ["Meier"]
    assert the_row().status == Status.SUCCEEDED


@pytest.mark.parametrize("point", [POINTS[1], POINTS[3]])
def test_a_tick_that_dies_materializes_the_partition_once(sensor: Daemon, point: str):
    build_row(params={"partition": "Meier"})
    sensor.tick(crash={point: Crash(point)})
    for _ in range(3):
        sensor.tick()
    assert [one.partition for one in materializations(sensor.instance)] == ["Meier"]


def test_a_report_that_fails_materializes_nothing_until_an_attempt_makes_it(sensor: Daemon, settings: Any):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0}
    row = build_row(params={"partition": "Meier", "do": "raise"})
    sensor.tick()
    row.refresh_from_db()
    assert (row.status, row.attempt) == (Status.QUEUED, 1)
    assert materializations(sensor.instance) == materializations(sensor.instance, SUMMARY) == []
    ReportQueue.objects.update(params={"partition": "Meier"})
    sensor.tick()
    (made,) = materializations(sensor.instance)
    assert made.metadata["reportqueue/attempt"] == MetadataValue.int(2)


def make_year(runner: Runner, token: str, item: QueueItem | None, work: Any) -> ExecuteInProcessResult:
    """Materialize a year in this process, for a row or for none."""
    made, job = build_report_asset(
        work, key=YEAR, partitions_def=StaticPartitionsDefinition(["2025", "2026"]), lease_seconds=5
    )
    assert job.name == "reports_year_job"
    resources = {"report_queue": ReportQueueResource(url=runner.client.url, token=token)}
    resolved = Definitions(assets=[made], jobs=[job], resources=resources).resolve_job_def(job.name)
    return resolved.execute_in_process(
        instance=runner.instance,
        partition_key="2026",
        tags={} if item is None else Ticket(item.queue_id, item.generation).tags(),
        raise_on_error=False,
    )


def link(run: ReportRun) -> Mapping[str, Any]:
    return {"artifacts": {"report.pdf": f"https://example.com/{run.partition_key}.pdf", "reportqueue/source": "me"}}


def test_the_metadata_has_the_links_of_the_report_and_no_report_can_replace_what_is_the_rows(
    runner: Runner, token: str
):
    build_row()
    assert make_year(runner, token, runner.claim(), link).success
    (made,) = materializations(runner.instance, YEAR)
    assert made.partition == "2026"
    assert made.metadata["report.pdf"] == MetadataValue.url("https://example.com/2026.pdf")
    assert made.metadata["reportqueue/source"] == MetadataValue.text(Source.CODE)
    assert "reportqueue/schedule_id" not in made.metadata


def test_a_run_that_does_not_own_its_row_materializes_nothing(runner: Runner, token: str):
    row = build_row()
    item = runner.claim()
    queue.start(row.pk, generation=1, run_id="another")
    result = make_year(runner, token, item, link)
    assert runner.status(result) == DagsterRunStatus.SUCCESS
    assert materializations(runner.instance, YEAR) == []


def test_a_cancelled_report_materializes_nothing(runner: Runner, token: str):
    row = build_row()

    def cancelled(run: ReportRun) -> Mapping[str, Any]:
        queue.cancel(row.pk)
        while not run.stop_requested():
            pass
        return {"half": "made"}

    result = make_year(runner, token, runner.claim(), cancelled)
    assert runner.status(result) == DagsterRunStatus.CANCELED
    assert materializations(runner.instance, YEAR) == []
    assert the_row().status == Status.CANCELLED


def test_an_asset_without_a_row_says_what_it_lacks(runner: Runner, token: str):
    result = make_year(runner, token, None, link)
    assert runner.status(result) == DagsterRunStatus.FAILURE
    assert "no tag reportqueue/queue_id, which a queue sensor sets" in runner.log(result)
    assert materializations(runner.instance, YEAR) == []
