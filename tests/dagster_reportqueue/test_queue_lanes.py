"""Lanes: sensors that wait for rows together, so that one of them is there when a row comes."""

import re
from typing import Any

import pytest
from dagster import DagsterInstance, Definitions, SensorDefinition, build_sensor_context, instance_for_test
from dagster._core.scheduler.instigation import TickStatus

from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.sensors.queue_sensor import (
    LANE_WAITS,
    MAX_WAIT_SECONDS,
    NO_THREADS,
    SERIAL_WAIT_SECONDS,
    build_queue_lanes,
    build_queue_sensor,
)
from dagster_reportqueue.sensors.ticks import ROUND_SECONDS, TickFailed
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.daemon import IN_PROCESS, OWN_PROCESS, daemon
from tests.dagster_reportqueue.front import Front, Reply

NOBODY = Reply(body='{"claim_id": null, "queue": []}')
"""The answer to a claim that waited in vain; at once, so that what it asked for is seen and not sat out."""
TICK_SECONDS = 0.5
"""Of a tick that waited in vain: beyond the wait."""


THREADS = {"sensors": {"use_threads": True, "num_workers": 8}}
"""Of an instance on which sensors may wait."""


def off(number: int, visit: float) -> bool:
    """Whether a lane that was started together with the others has ended shortly before a visit of the daemon."""
    wait = LANE_WAITS[number % len(LANE_WAITS)]
    return visit % (wait + 1) > wait


def test_each_lane_has_just_ended_when_the_daemon_looks_which_have():
    for wait in LANE_WAITS:
        left = -(wait + TICK_SECONDS) % ROUND_SECONDS
        assert 0 < left <= 1, "it ends after the daemon has looked, or long before: nobody waits in its place"
        assert wait <= MAX_WAIT_SECONDS


def test_lanes_that_were_started_together_hardly_ever_end_together():
    halves = [half / 2 for half in range(2 * 3600)]
    for lanes in (2, 3):
        alone = sum(all(off(number, half + 0.25) for number in range(lanes)) for half in halves)
        assert alone <= 0.015 * len(halves), "nobody waits"


def test_lanes_are_named_by_their_number_and_claim_under_their_names(stranger: Front):
    assert [lane.name for lane in build_queue_lanes(location.report_job, name="lane")] == ["lane", "lane_2", "lane_3"]
    stranger.fail(NOBODY)
    for lane in build_queue_lanes(location.report_job, lanes=2, max_in_flight=7):
        with (
            DagsterInstance.ephemeral(settings=THREADS) as instance,
            build_sensor_context(instance=instance) as context,
        ):
            lane(context, report_queue=ReportQueueResource(url=stranger.url, token="token"))
    asked = [(call.body["consumer"], call.body["max_in_flight"], call.body["wait_seconds"]) for call in stranger.calls]
    assert asked == [("database_queue_sensor", 7, LANE_WAITS[0]), ("database_queue_sensor_2", 7, LANE_WAITS[1])]


def claims_as(stranger: Front, sensor: SensorDefinition, *sensors: SensorDefinition) -> list[str]:
    """The consumers for which a tick of the sensor claims, in a code location with these sensors."""
    stranger.fail(NOBODY)
    resource = ReportQueueResource(url=stranger.url, token="token")
    defs = Definitions(sensors=[sensor, *sensors], resources={"report_queue": resource})
    before = len(stranger.calls)
    with (
        DagsterInstance.ephemeral(settings=THREADS) as instance,
        build_sensor_context(
            instance=instance, repository_def=defs.get_repository_def(), resources={"report_queue": resource}
        ) as context,
    ):
        sensor(context)
    return [call.body["consumer"] for call in stranger.calls[before:]]


def test_lanes_have_consumers_of_their_own_also_with_a_given_name(stranger: Front):
    lanes = build_queue_lanes(location.report_job, name="lane", consumer="reports")
    assert [claims_as(stranger, lane) for lane in lanes] == [["reports"], ["reports_2"], ["reports_3"]]


def test_each_deployment_may_have_consumers_of_its_own(stranger: Front):
    lanes = build_queue_lanes(location.report_job, lanes=2, consumer="shop-{deployment}")
    asked = [claims_as(stranger, lane) for lane in (*lanes, lanes[0])]
    names = [name for (name,) in asked]
    assert all(re.fullmatch(r"shop-[0-9a-f]{8}(_2)?", name) for name in names), names
    assert len(set(names)) == 3, "each of these ticks has a storage of its own"
    assert names[1].endswith("_2")
    assert [call.body["deployment"] for call in stranger.calls] == [name.removesuffix("_2")[-8:] for name in names]


def test_two_sensors_that_are_one_consumer_claim_nothing(stranger: Front):
    one, two = (build_queue_sensor(location.report_job, name=name, consumer="reports") for name in ("one", "two"))
    other = build_queue_sensor(location.report_job, name="other", consumer="others")
    with pytest.raises(
        TickFailed, match="The sensors one and two are one consumer, 'reports': each would launch a run"
    ):
        claims_as(stranger, one, two, other)
    assert stranger.calls == []
    assert claims_as(stranger, one, other) == ["reports"]


def test_a_resource_of_another_kind_is_named(stranger: Front):
    with (
        DagsterInstance.ephemeral() as instance,
        build_sensor_context(instance=instance) as context,
        pytest.raises(TickFailed, match="The resource report_queue must be a ReportQueueResource; it is 'http://x'"),
    ):
        build_queue_sensor(location.report_job)(context, report_queue="http://x")


@pytest.mark.parametrize("target", [IN_PROCESS, OWN_PROCESS], ids=["in process", "in a process of its own"])
@pytest.mark.parametrize("threads", [True, False])
def test_a_lane_waits_only_if_the_daemon_has_threads_and_says_what_it_lacks(
    storage: dict[str, Any], front: Front, token: str, monkeypatch: pytest.MonkeyPatch, threads: bool, target: Any
):
    monkeypatch.setenv("REPORTQUEUE_URL", front.url)
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    front.fail(NOBODY, on="claim")
    settings = storage | (THREADS if threads else {})
    with instance_for_test(settings) as instance, daemon(instance, "waiting_sensor", target) as sensor:
        tick = sensor.tick()
    (claim,) = front.calls
    assert claim.body["wait_seconds"] == (24 if threads else SERIAL_WAIT_SECONDS)
    said = "No report is due." if threads else f"No report is due. {NO_THREADS}"
    assert (tick.status, tick.skip_reason) == (TickStatus.SKIPPED, said)


def test_a_lane_logs_once_that_it_does_not_wait(stranger: Front, capfd: pytest.CaptureFixture[str]):
    stranger.fail(NOBODY)
    sensor = build_queue_sensor(location.report_job, wait_seconds=24)
    for _ in range(2):
        with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance) as context:
            sensor(context, report_queue=ReportQueueResource(url=stranger.url, token="token"))
    assert capfd.readouterr().err.count("sensors: {use_threads: true") == 1


@pytest.mark.parametrize("lanes", [0, 9])
def test_a_number_of_lanes_beyond_its_bounds_is_refused(lanes: int):
    with pytest.raises(ValueError, match="lanes must be from 1 to 8"):
        build_queue_lanes(location.report_job, lanes=lanes)
