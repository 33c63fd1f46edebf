"""When Dagster's daemon starts a sensor again: at the round that was asked for, not one later."""

import inspect
import time

import pytest
from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._daemon.sensor import MIN_INTERVAL_LOOP_TIME, is_under_min_interval

from dagster_reportqueue.sensors.polling_sensor import build_polling_sensor
from dagster_reportqueue.sensors.repair_sensors import build_repair_sensors
from dagster_reportqueue.sensors.report_sensor import build_report_cron_sensor
from dagster_reportqueue.sensors.smart_sensor import build_smart_cron_sensor
from dagster_reportqueue.sensors.ticks import ROUND_SECONDS, interval
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.daemon import daemon

LATE = 0.05
"""How long after the daemon has looked a tick starts."""


def test_a_round_is_as_long_as_dagsters():
    assert ROUND_SECONDS == MIN_INTERVAL_LOOP_TIME


@pytest.mark.parametrize("seconds", [1, 4, 5, 7, 10, 30, 60, 86_400])
def test_a_tick_comes_at_the_first_round_after_so_many_seconds(seconds: int):
    rounds = -(-seconds // ROUND_SECONDS)
    # It was started a moment after one look; at the look of that round it is due, and at the one before it is not.
    assert rounds * ROUND_SECONDS - LATE >= interval(seconds) > (rounds - 1) * ROUND_SECONDS - LATE


@pytest.mark.skipif(
    len(inspect.signature(is_under_min_interval).parameters) < 3,
    reason="this version of Dagster asks the sensor alone for its interval",
)
def test_dagster_counts_from_the_start_of_the_last_tick(instance: DagsterInstance):
    with daemon(instance, "polling_sensor") as running:
        sensor = running._sensor
        started = SensorInstigatorData(last_tick_start_timestamp=time.time() - ROUND_SECONDS + LATE)
        state = InstigatorState(sensor.get_remote_origin(), InstigatorType.SENSOR, InstigatorStatus.RUNNING, started)
        assert is_under_min_interval(state, sensor, ROUND_SECONDS), "it would be started: nothing to work around"
        assert not is_under_min_interval(state, sensor, interval(ROUND_SECONDS))


def test_every_sensor_asks_for_its_round():
    job = location.report_job
    sensors = [build_polling_sensor(job), build_smart_cron_sensor(job), *build_repair_sensors()]
    assert [one.minimum_interval_seconds for one in sensors] == [4, 4, 9, 9, 29]
    assert build_report_cron_sensor(job).minimum_interval_seconds == 29
    assert build_report_cron_sensor(job, minimum_interval_seconds=7).minimum_interval_seconds == 7


@pytest.mark.parametrize("seconds", [0, -5, 86_401])
def test_an_interval_beyond_its_bounds_is_refused(seconds: int):
    with pytest.raises(ValueError, match="minimum_interval_seconds must be from 1 to 86,400"):
        build_polling_sensor(location.report_job, minimum_interval_seconds=seconds)
