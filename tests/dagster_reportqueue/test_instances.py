"""The ticks of a process share one Dagster instance and its connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from dagster import DagsterInstance, Definitions, SensorDefinition, SensorEvaluationContext, instance_for_test
from dagster._core.definitions.run_status_sensor_definition import RunStatusSensorDefinition

from dagster_reportqueue.pooling import close_connections
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors import instances
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.front import Front


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The instances that were made since."""
    from_ref, found = DagsterInstance.from_ref, []
    monkeypatch.setattr(instances, "_kept", None)
    monkeypatch.setattr(DagsterInstance, "from_ref", lambda ref: found.append(from_ref(ref)) or found[-1])
    yield found
    for one in found:
        close_connections(one)


def tick(sensor: SensorDefinition, instance: DagsterInstance, front: Front, token: str) -> Any:
    resource = ReportQueueResource(url=front.url, token=token)
    with SensorEvaluationContext(
        instance_ref=instance.get_ref(),
        last_tick_completion_time=None,
        last_run_key=None,
        cursor=None,
        repository_name=None,
        resources={"report_queue": resource.get_resource_definition()},
        sensor_name=sensor.name,
    ) as context:
        return sensor.evaluate_tick(context)


def sessions(instance: DagsterInstance) -> int:
    url = instance.event_log_storage.postgres_url.replace("+psycopg2", "")  # type: ignore[attr-defined]
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_many_ticks_make_one_instance(storage: dict[str, Any], made: list[Any], front: Front, token: str):
    with instance_for_test(storage) as instance:
        for sensor in (location.own_sensor, location.report_sensor):
            for _ in range(3):
                assert tick(sensor, instance, front, token).skip_message == "No report is due."
        before = sessions(instance)
        for _ in range(5):
            made[0].get_runs(limit=1)
            made[0].all_logs("none")
        assert len(made) == 1
        assert sessions(instance) <= before + 2, "one for each storage that is used, and no more for each use"


def test_another_instance_has_its_own(storage: dict[str, Any], made: list[Any], front: Front, token: str):
    for _ in range(2):
        with instance_for_test(storage) as instance:
            tick(location.own_sensor, instance, front, token)
            assert made[-1].get_ref() == instance.get_ref()
    assert len(made) == 2


def test_a_copy_that_definitions_make_uses_it(
    storage: dict[str, Any], made: list[Any], front: Front, token: str, monkeypatch: pytest.MonkeyPatch
):
    """They replace the sensors of each job to which they bind resources."""
    defs = Definitions(
        jobs=[location.own_job],
        sensors=[location.own_sensor],
        resources={"report_queue": ReportQueueResource(url=front.url, token=token)},
    )
    bound = defs.get_repository_def().get_sensor_def(location.own_sensor.name)
    assert bound is not location.own_sensor
    with instance_for_test(storage) as instance:
        for _ in range(3):
            tick(bound, instance, front, token)
    assert len(made) == 1


def test_every_sensor_uses_it():
    sensors = [one for one in vars(location).values() if isinstance(one, SensorDefinition)]
    assert len(sensors) > 5
    for one in sensors:
        if not isinstance(one, RunStatusSensorDefinition):
            assert "evaluate_tick" in vars(one), one.name
