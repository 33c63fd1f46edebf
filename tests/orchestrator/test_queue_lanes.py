"""Lanes: sensors that wait for rows in turns, so that one of them is there when a row comes."""

import time
from typing import Any

import pytest
from dagster import DagsterInstance, build_sensor_context

from orchestrator.resources import ReportQueueResource
from orchestrator.sensors.queue_sensor import build_queue_lanes, build_queue_sensor
from tests.orchestrator import location
from tests.orchestrator.front import Front, Reply

NOBODY = Reply(body='{"claim_id": null, "queue": []}')
"""The answer to a claim that waited in vain; at once, so that what it asked for is seen and not sat out."""


def waits(front: Front, monkeypatch: pytest.MonkeyPatch, now: float, lanes: int, **options: Any) -> list[float]:
    """How long each lane asks to wait if it is started now (seconds since 1970)."""
    front.calls.clear()
    front.fail(NOBODY)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now)
        for lane in build_queue_lanes(location.report_job, lanes=lanes, **options):
            with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance) as context:
                lane(context, report_queue=ReportQueueResource(url=front.url, token="token"))
    return [call.body["wait_seconds"] for call in front.calls]


@pytest.mark.parametrize("now", [1_700_000_000.0, 1_700_000_003.25, 1_700_000_019.75])
@pytest.mark.parametrize("lanes", [2, 3])
def test_lanes_that_are_started_together_do_not_stop_waiting_together(
    stranger: Front, monkeypatch: pytest.MonkeyPatch, now: float, lanes: int
):
    ends = sorted((now + wait) % 20 for wait in waits(stranger, monkeypatch, now, lanes))
    gaps = [after - before for before, after in zip(ends, [*ends[1:], ends[0] + 20], strict=True)]
    assert min(gaps) > 5, "one is started again 5 s after it has ended; nobody waits meanwhile"


def test_a_lane_waits_no_longer_than_it_may(stranger: Front, monkeypatch: pytest.MonkeyPatch):
    for now in range(1_700_000_000, 1_700_000_025):
        assert all(0 <= wait <= 25 for wait in waits(stranger, monkeypatch, now, 3, wait_seconds=25))


def test_lanes_need_not_wait(stranger: Front, monkeypatch: pytest.MonkeyPatch):
    assert waits(stranger, monkeypatch, 1_700_000_003.25, 2, wait_seconds=0) == [0, 0]


def test_a_sensor_alone_waits_for_as_long_as_it_is_told(stranger: Front):
    stranger.fail(NOBODY)
    sensor = build_queue_sensor(location.report_job, wait_seconds=7)
    with DagsterInstance.ephemeral() as instance, build_sensor_context(instance=instance) as context:
        sensor(context, report_queue=ReportQueueResource(url=stranger.url, token="token"))
    assert [call.body["wait_seconds"] for call in stranger.calls] == [7]


def test_lanes_are_named_by_their_number_and_claim_under_their_names(stranger: Front, monkeypatch: pytest.MonkeyPatch):
    assert [lane.name for lane in build_queue_lanes(location.report_job, name="lane")] == ["lane", "lane_2", "lane_3"]
    waits(stranger, monkeypatch, 0, 2, max_in_flight=7)
    assert [(call.body["consumer"], call.body["max_in_flight"]) for call in stranger.calls] == [
        ("database_queue_sensor", 7),
        ("database_queue_sensor_2", 7),
    ]


@pytest.mark.parametrize("lanes", [0, 9])
def test_a_number_of_lanes_beyond_its_bounds_is_refused(lanes: int):
    with pytest.raises(ValueError, match="lanes must be from 1 to 8"):
        build_queue_lanes(location.report_job, lanes=lanes)


@pytest.mark.parametrize("offset", [-1, 20])
def test_an_offset_beyond_the_wait_is_refused(offset: float):
    with pytest.raises(ValueError, match="wait_offset must be from 0 to below wait_seconds"):
        build_queue_sensor(location.report_job, wait_seconds=20, wait_offset=offset)
