"""Rows whose run waits in the warm launcher, or seems to: what the comparison with Dagster's runs makes of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from dagster import DagsterRunStatus
from dagster._core.test_utils import instance_for_test
from pytest_django.live_server_helper import LiveServer

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.sensors.reconciliation import reconcile
from dagster_reportqueue.tickets import Ticket
from dagster_reportqueue.warm.address import TAG, Address
from tests.conftest import minutes_ago
from tests.dagster_reportqueue.conftest import ClientFactory, allow_consumer
from tests.dagster_reportqueue.test_repair import SENSOR, dispatched, lease_left, make_run
from tests.dagster_reportqueue.warm import warm_instance
from tests.dagster_reportqueue.warm_location import NOTES


@pytest.fixture
def client(make_client: ClientFactory, live_server: LiveServer, token: str) -> ReportQueueClient:
    """A client of the real web app, whose user sees the queue."""
    allow_consumer("view_reportqueue")
    return make_client(url=live_server.url)


def test_rows_whose_run_waits_in_the_warm_launcher_keep_their_leases(
    client: ReportQueueClient, dagster_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(NOTES, str(tmp_path))
    storage = {"storage": {"postgres": {"postgres_url": dagster_database}}}
    with warm_instance(storage, tmp_path, max_runs=1) as warm:
        works, waits = warm.launch("wait"), warm.launch()
        warm.started(works)
        about_to_start, waiting = [dispatched(lease_expires_at=minutes_ago(-1)) for _ in range(2)]
        for row, run_id in ((about_to_start, works), (waiting, waits)):
            warm.instance.add_run_tags(run_id, Ticket(row.pk, row.generation).tags())
        assert warm.status(waits) == DagsterRunStatus.STARTING
        assert reconcile(warm.instance, client, [SENSOR]).kept_waiting == 1
        assert lease_left(waiting) > timedelta(minutes=10)
        assert lease_left(about_to_start) < timedelta(minutes=1)
        warm.launcher.terminate(works)
        assert warm.ended(waits) == DagsterRunStatus.SUCCESS
        warm.instance.wipe()


@pytest.mark.parametrize("tag", ["", Address.here(1, "/nowhere/socket").tag()], ids=["never launched", "gone"])
def test_a_row_whose_run_seems_to_start_but_waits_in_no_server_is_left_to_its_lease(
    client: ReportQueueClient, tag: str
):
    launcher = {"module": "dagster_reportqueue.warm.launcher", "class": "WarmRunLauncher"}
    with instance_for_test(overrides={"run_launcher": launcher}) as instance:
        row = dispatched(lease_expires_at=minutes_ago(-1))
        make_run(instance, DagsterRunStatus.STARTING, Ticket(row.pk, row.generation).tags() | {TAG: tag})
        assert reconcile(instance, client, [SENSOR]).kept_waiting == 0
        assert lease_left(row) < timedelta(minutes=1)
