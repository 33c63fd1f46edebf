"""A job with partitions is refused: each of its runs would fail before its op, and be launched again."""

from __future__ import annotations

from typing import Any

import pytest
from dagster import DagsterInstance, DailyPartitionsDefinition
from dagster._core.scheduler.instigation import TickStatus

from dagster_reportqueue.jobs import build_batch_job
from dagster_reportqueue.sensors.polling_sensor import build_polling_sensor
from dagster_reportqueue.sensors.queue_sensor import build_queue_lanes, build_queue_sensor
from dagster_reportqueue.sensors.report_sensor import build_report_cron_sensor
from dagster_reportqueue.sensors.smart_sensor import build_smart_cron_sensor
from reportqueue.models import ReportQueue
from tests.conftest import build_row
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.daemon import daemon


@pytest.mark.parametrize(
    "build",
    [build_queue_sensor, build_queue_lanes, build_polling_sensor, build_report_cron_sensor, build_smart_cron_sensor],
)
def test_a_job_with_partitions_is_refused_when_its_sensor_is_built(build: Any):
    with pytest.raises(ValueError, match=r"The job partitioned_job has partitions.* Give the sensor a job without"):
        build(location.partitioned_job)


def test_a_batch_job_with_partitions_is_refused_too():
    days = DailyPartitionsDefinition("2026-01-01")
    batch_job = build_batch_job(location.make, name="partitioned_batch_job", partitions_def=days)
    with pytest.raises(ValueError, match="The job partitioned_batch_job has partitions"):
        build_queue_sensor(location.report_job, batch_job=batch_job, max_in_flight=10)


@pytest.mark.parametrize("name", [sensor.name for sensor in location.partitioned_sensors])
def test_an_asset_job_whose_asset_has_partitions_fails_the_tick_before_anything_is_claimed(
    instance: DagsterInstance, name: str
):
    build_row()
    before = list(ReportQueue.objects.values())
    with daemon(instance, name) as sensor:
        tick = sensor.tick()
    assert tick.status == TickStatus.FAILURE
    assert tick.error is not None
    assert "The job partitioned_asset_job has partitions" in tick.error.to_string()
    assert list(ReportQueue.objects.values()) == before
