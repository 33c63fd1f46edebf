"""Real processes: Dagster's code server, its run workers, its step workers, and the signals between them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, execute_job, instance_for_test, reconstructable

from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.tickets import Ticket
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.daemon import OWN_PROCESS, ROOT, daemon
from tests.dagster_reportqueue.front import Front
from tests.dagster_reportqueue.waiting import NEVER, meanwhile, until


@pytest.fixture
def instance(
    storage: dict[str, Any], front: Front, token: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """An instance whose runs are processes, as launched by Dagster's default launcher."""
    monkeypatch.setenv("REPORTQUEUE_URL", front.url)
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    with instance_for_test(storage, synchronous_run_coordinator=True) as instance:
        yield instance


def process_of(instance: DagsterInstance, run: DagsterRun) -> int:
    """The run worker's process id, as Dagster logs it."""
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    (pid,) = [
        match[1] for message in messages if (match := re.match(r"Started process for run \(pid: (\d+)\)", message))
    ]
    return int(pid)


def test_runs_that_are_stopped_tell_the_queue_why(instance: DagsterInstance):
    """One is terminated in Dagster, one is killed with its machine, and one is cancelled in the queue."""
    rows = {name: build_row(params={"do": "wait"}) for name in ("terminated", "killed", "cancelled")}

    def statuses() -> dict[str, str]:
        return {name: ReportQueue.objects.get(pk=row.pk).status for name, row in rows.items()}

    with daemon(instance, target=OWN_PROCESS) as sensor:
        sensor.tick()
        until(lambda: set(statuses().values()) == {Status.RUNNING}, 120)
        runs = {name: instance.get_run_by_id(ReportQueue.objects.get(pk=row.pk).run_id) for name, row in rows.items()}
        assert instance.run_launcher.terminate(runs["terminated"].run_id)
        os.kill(process_of(instance, runs["killed"]), signal.SIGTERM)
        queue.cancel(rows["cancelled"].pk)
        until(lambda: Status.RUNNING not in statuses().values(), 60)
        instance.run_launcher.join(60)
    assert statuses() == {"terminated": Status.CANCELLED, "killed": Status.QUEUED, "cancelled": Status.CANCELLED}
    ended = {name: instance.get_run_by_id(run.run_id).status for name, run in runs.items()}
    assert ended == {
        "terminated": DagsterRunStatus.CANCELED,
        "killed": DagsterRunStatus.FAILURE,
        "cancelled": DagsterRunStatus.CANCELED,
    }


def test_a_batch_that_is_killed_loses_only_what_it_had_not_finished(instance: DagsterInstance):
    """The machine dies in the middle: what is made stays made, and the rest is offered again when its leases end."""
    rows = [build_row(params=params, available_at=minutes_ago(9)) for params in ({}, {}, {"do": "wait"}, {})]

    def statuses() -> list[str]:
        return list(ReportQueue.objects.order_by("pk").values_list("status", flat=True))

    with daemon(instance, "batch_sensor", target=OWN_PROCESS) as sensor:
        sensor.tick()
        until(lambda: statuses()[:3] == [Status.SUCCEEDED, Status.SUCCEEDED, Status.RUNNING], 120)
        (run,) = instance.get_runs()
        os.kill(process_of(instance, run), signal.SIGKILL)
        made = list(ReportQueue.objects.order_by("pk").values()[:2])
        ReportQueue.objects.update(params={})
        ReportQueue.objects.exclude(lease_expires_at=None).update(lease_expires_at=minutes_ago(1))
        queue.rescue_expired()
        assert statuses() == [Status.SUCCEEDED] * 2 + [Status.QUEUED] * 2
        ReportQueue.objects.filter(status=Status.QUEUED).update(available_at=minutes_ago(1))
        sensor.tick()
        until(lambda: set(statuses()) == {Status.SUCCEEDED}, 120)
        instance.run_launcher.join(60)
    assert [row.attempts.count() for row in rows[:3]] == [1, 1, 2]
    for before, row in zip(made, ReportQueue.objects.order_by("pk").values()[:2], strict=True):
        assert row | {"params": None} == before | {"params": None}


def test_a_report_that_is_made_in_a_step_process_can_be_cancelled(instance: DagsterInstance, client: ReportQueueClient):
    build_row(params={"do": "wait"})
    (item,) = client.claim("sensor").items

    def cancel() -> None:
        until(lambda: ReportQueue.objects.get().status == Status.RUNNING, NEVER)
        queue.cancel(item.queue_id)

    tags = Ticket(item.queue_id, item.generation).tags()
    with meanwhile(cancel), execute_job(reconstructable(location.the_default_job), instance, tags=tags) as result:
        assert result.run_id == ReportQueue.objects.get().run_id
    assert ReportQueue.objects.get().status == Status.CANCELLED
    assert instance.get_run_by_id(result.run_id).status == DagsterRunStatus.CANCELED


def test_the_code_location_loads_without_any_setting(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REPORT", "DAGSTER"))}
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "orchestrator.definitions"],
        cwd=ROOT,
        env=environment | {"DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful for code location orchestrator.definitions" in done.stdout + done.stderr
