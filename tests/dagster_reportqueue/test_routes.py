"""Routes: two code locations share a queue, and each gets its own rows only."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
from dagster import DagsterInstance, DefaultSensorStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration

from dagster_reportqueue.environment import Environment
from dagster_reportqueue.sensors.queue_sensor import build_queue_lanes, build_queue_sensor
from reportqueue import queue
from reportqueue.models import Report, ReportConsumer, ReportQueue
from reportqueue.states import Status
from tests.dagster_reportqueue.daemon import ROOT
from tests.dagster_reportqueue.location import report_job
from tests.documents import blocks

MODULE = "tests.dagster_reportqueue.routed_locations"


def location(name: str) -> InProcessCodeLocationOrigin:
    target = LoadableTargetOrigin(module_name=MODULE, attribute=name, working_directory=ROOT)
    return InProcessCodeLocationOrigin(target, location_name=name)


@pytest.mark.django_db(transaction=True)
def test_two_code_locations_get_their_own_rows_only(instance: DagsterInstance, front: Any):
    Report(report_id=1, name="Balance", route="finance").save()
    Report(report_id=2, name="Uptime", route="operations").save()
    rows = [queue.enqueue(report_id, modifier) for modifier in range(3) for report_id in (1, 2)]
    nobodys = queue.enqueue(3, 1)  # of the route `default`, which neither has
    both = InProcessWorkspaceLoadTarget([location("finance"), location("operations")])
    with create_test_daemon_workspace_context(both, instance) as workspace:
        list(execute_sensor_iteration(workspace, logging.getLogger("daemon"), None, None))
    made = {row.pk: row for row in ReportQueue.objects.all()}
    for row in rows:
        route = "finance" if row.report_id == 1 else "operations"
        name = "Balance" if row.report_id == 1 else "Uptime"
        assert (made[row.pk].status, made[row.pk].result) == (Status.SUCCEEDED, {"made_by": route, "name": name})
    assert made[nobodys.pk].status == Status.QUEUED
    runs = instance.get_runs()
    assert Counter((run.job_name, run.tags["reportqueue/report"]) for run in runs) == {
        ("finance_job", "Balance"): 3,
        ("operations_job", "Uptime"): 3,
    }
    known = dict(ReportConsumer.objects.values_list("name", "routes"))
    assert known == {"finance_sensor": ["finance"], "operations_sensor": ["operations"]}


@pytest.mark.parametrize(
    ("routes", "error", "said"),
    [
        ("finance", TypeError, "routes must be a list"),
        ([], ValueError, "routes must be 1 to 50 routes, or None for all; there are 0"),
        (["Finance"], ValueError, "A route in routes must be small letters"),
        ([1], TypeError, r"routes\[0\] must be the name of a route"),
    ],
)
def test_what_is_no_route_is_refused(routes: Any, error: type[Exception], said: str):
    for build in (build_queue_sensor, build_queue_lanes):
        with pytest.raises(error, match=said):
            build(report_job, routes=routes)


def test_the_environment_names_routes(monkeypatch: pytest.MonkeyPatch):
    assert Environment.read().routes is None
    monkeypatch.setenv("REPORT_ROUTES", "finance, ops")
    assert Environment.read().routes == ("finance", "ops")
    monkeypatch.setenv("REPORT_ROUTES", "finance,OPS")
    with pytest.raises(ValueError, match="A route in REPORT_ROUTES must be"):
        Environment.read()


def test_the_block_of_docs_catalogue_md_is_a_code_location():
    (block,) = (block for block in blocks("docs/catalogue.md", "python") if "build_queue_lanes" in block.text)
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)  # noqa: S102
    repository = names["defs"].get_repository_def()
    sensors = {sensor.name: sensor.default_status for sensor in repository.sensor_defs}
    assert {"finance_sensor", "finance_sensor_2", "finance_sensor_3", "report_reconciler"} <= sensors.keys()
    assert set(sensors.values()) == {DefaultSensorStatus.RUNNING}
    assert repository.has_job("finance_job")
