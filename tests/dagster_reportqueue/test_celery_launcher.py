"""Runs on real Celery workers: which worker makes them, when, and what becomes of them if something dies."""

from __future__ import annotations

import json
import logging
import os
import signal
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterRunStatus
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import WorkerStatus
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from redis import Redis

from dagster_reportqueue import celery_engine, celery_launcher
from dagster_reportqueue.celery_launcher import ReportCeleryRunLauncher
from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.pooling import close_connections, pool_connections
from dagster_reportqueue.sensors.reconciliation import reconcile
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Outcome, Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue.celery import Celery, celery_instance, redis_server, refusal, worker
from tests.dagster_reportqueue.conftest import allow_consumer
from tests.dagster_reportqueue.daemon import OWN_PROCESS, Daemon, daemon
from tests.dagster_reportqueue.front import Front
from tests.dagster_reportqueue.test_repair import dispatched, run_for
from tests.dagster_reportqueue.waiting import until
from tests.dagster_reportqueue.warm import gone
from tests.dagster_reportqueue.warm_location import NOTES

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),  # of Redis, by Celery
]
MONITORED = {"run_monitoring": {"enabled": True, "start_timeout_seconds": 3_600}}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis server."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def celery(storage: dict[str, Any], broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Celery]:
    """An instance on an empty broker; its code has the version 1."""
    monkeypatch.setenv("CODE_VERSION", "1")
    monkeypatch.setenv(NOTES, str(tmp_path))
    (tmp_path / "a_module.py").write_text("THE_FIRST = True\n")
    with celery_instance(storage, tmp_path, broker, ("a_module",), **MONITORED) as made:
        pool_connections(made.instance)
        yield made
        close_connections(made.instance)


@pytest.fixture
def reports(celery: Celery, front: Front, token: str, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """The instance, whose runs find the web app."""
    monkeypatch.setenv("REPORTQUEUE_URL", front.url)
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    allow_consumer("view_reportqueue")
    return celery


def status(row: ReportQueue) -> str:
    row.refresh_from_db()
    return row.status


def monitor(sensor: Daemon) -> None:
    """One round of Dagster's run monitoring, by the daemon of the sensor."""
    assert not any(execute_run_monitoring_iteration(sensor.workspace, logging.getLogger("test")))


def health(celery: Celery, run_id: str) -> WorkerStatus:
    return celery.launcher.check_run_worker_health(celery.run(run_id)).status


def test_runs_in_its_queue_keep_their_rows_and_a_termination_is_a_cancel(reports: Celery, client: ReportQueueClient):
    instance = reports.instance
    worked, waiting = build_row(params={"do": "wait"}), build_row()
    with daemon(instance, target=OWN_PROCESS) as sensor:
        sensor.tick()
        sensor.tick()  # acknowledges the claim
        assert (status(worked), status(waiting)) == (Status.DISPATCHED, Status.DISPATCHED)
        first, second = (
            next(run.run_id for run in instance.get_runs() if run.tags["reportqueue/queue_id"] == str(row.pk))
            for row in (worked, waiting)
        )
        with worker(reports):
            until(lambda: status(worked) == Status.RUNNING, 60)
            for _ in range(2):
                ReportQueue.objects.filter(pk=waiting.pk).update(lease_expires_at=minutes_ago(-1))
                assert reconcile(instance, client, [waiting.claimed_by]).kept_waiting == 1
            assert (reports.waits(first), reports.waits(second)) == (False, True)
            assert reports.status(second) == DagsterRunStatus.STARTING
            # The one waits in Celery, the other one is at work.
            assert instance.run_launcher.terminate(second)
            assert reports.status(second) == DagsterRunStatus.CANCELED
            assert instance.run_launcher.terminate(first)
            until(lambda: reports.status(first) == DagsterRunStatus.CANCELED, 60)
            assert (status(worked), worked.attempt) == (Status.CANCELLED, 1)
            assert not instance.run_launcher.terminate(first), "it has ended"
            # A row whose run was cancelled before it began is launched again, as with every launcher.
            assert reconcile(instance, client, [waiting.claimed_by]).launched_again == 1
            ReportQueue.objects.filter(pk=waiting.pk).update(available_at=minutes_ago(1))
            sensor.tick()
            until(lambda: status(waiting) == Status.SUCCEEDED, 60)
        assert waiting.attempts.count() == 1
        assert reports.status(second) == DagsterRunStatus.CANCELED, "the worker has not executed the revoked task"


def test_a_report_whose_worker_is_killed_is_made_once_more_and_its_run_ends(
    reports: Celery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(celery_launcher, "LOST_SECONDS", 0.5)
    row = build_row(params={"do": "wait"})
    with daemon(reports.instance, target=OWN_PROCESS) as sensor:
        sensor.tick()
        sensor.tick()
        with worker(reports) as dying:
            until(lambda: status(row) == Status.RUNNING, 60)
            (run,) = reports.instance.get_runs()
            dying.process.kill()
            dying.process.wait()
        until(lambda: health(reports, run.run_id) == WorkerStatus.NOT_FOUND)
        assert reports.status(run.run_id) == DagsterRunStatus.STARTED
        monitor(sensor)
        assert reports.status(run.run_id) == DagsterRunStatus.FAILURE
        ReportQueue.objects.filter(pk=row.pk).update(lease_expires_at=minutes_ago(1), params={})
        queue.rescue_expired()
        ReportQueue.objects.filter(pk=row.pk).update(available_at=minutes_ago(1))
        sensor.tick()
        with worker(reports, name="two"):
            until(lambda: status(row) == Status.SUCCEEDED, 60)
    assert [attempt.outcome for attempt in row.attempts.order_by("pk")] == [Outcome.EXPIRED, Outcome.SUCCEEDED]
    assert len(reports.instance.get_runs()) == 2


def test_a_run_is_forked_from_a_worker_that_has_loaded_its_code(celery: Celery):
    first, second = celery.send(), celery.send()
    with worker(celery) as working:
        assert celery.succeeded(first)
        assert celery.succeeded(second)
    one, two = celery.notes()
    assert one["imported_by"] == one["parent"] == working.pid == two["imported_by"]
    assert one["pid"] != two["pid"]
    assert one["random"] != two["random"]


def test_a_worker_takes_the_runs_of_its_queues_by_their_priority(celery: Celery):
    fast = celery.send(**{"dagster-celery/queue": "fast"})
    low, middle, first, named = (
        celery.send(**{"dagster/priority": "-3"}),
        celery.send(),
        celery.send(**{"dagster/priority": "100"}),
        celery.send(**{"dagster-celery/run_priority": "6"}),
    )
    assert celery.run(fast).tags["reportqueue/celery_queue"] == "fast.1"
    with worker(celery, queues="fast"):
        assert celery.succeeded(fast)
        assert celery.begun() == [fast]
    assert "fast.1" in (celery.launcher.get_run_worker_debug_info(celery.run(fast)) or "")
    with worker(celery):
        assert celery.succeeded(low)
    assert celery.begun() == [fast, first, named, middle, low]


def test_a_worker_with_another_version_of_the_code_takes_no_run(celery: Celery, monkeypatch: pytest.MonkeyPatch):
    new = celery.send()
    monkeypatch.setattr(celery.launcher, "code_version", "0")
    old, older = celery.send("wait"), celery.send()
    monkeypatch.setattr(celery.launcher, "code_version", "1")
    monkeypatch.setattr(celery_engine, "FRESH_SECONDS", 0.0)
    with worker(celery, CODE_VERSION="0"):
        until(lambda: celery.begun() == [old], 60)
        assert celery.waits(new)
        assert celery.waits(older), "for the worker that still has its version"
    assert not celery.waits(older), "no worker has its version any more: its row gets a new run"
    assert celery.waits(new)
    with worker(celery, CODE_VERSION="1"):
        assert celery.succeeded(new)
    assert celery.begun() == [old, new]


def test_a_worker_whose_code_has_changed_on_the_disk_takes_no_run(celery: Celery):
    before = celery.send()
    with worker(celery) as old:
        assert celery.succeeded(before)
        (celery.folder / "a_module.py").write_text("THE_FIRST = False\n")
        after = celery.send()
        assert old.process.wait(30) == 0
        assert "a_module.py): run" in old.log
    assert celery.waits(after)
    assert celery.begun() == [before]
    with worker(celery):
        assert celery.succeeded(after)


def test_a_run_fails_whose_process_is_killed_or_whose_code_cannot_be_loaded(celery: Celery):
    run_id = celery.send("wait")
    with worker(celery):
        pid = celery.started(run_id)["pid"]
        until(lambda: celery.status(run_id) == DagsterRunStatus.STARTED)
        assert health(celery, run_id) == WorkerStatus.RUNNING
        os.kill(pid, signal.SIGKILL)
        until(lambda: health(celery, run_id) == WorkerStatus.FAILED)
        without_code = celery.send(pointer=ModuleCodePointer("no_such_module", "defs", str(celery.folder)))
        assert celery.ended(without_code) == DagsterRunStatus.FAILURE
        assert celery.succeeded(celery.send())
    assert "Could not load job definition" in celery.log(without_code)


def test_a_run_on_a_worker_that_is_being_stopped_goes_on_and_can_be_terminated(
    celery: Celery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(celery_launcher, "LOST_SECONDS", 2.0)
    run_id = celery.send("wait")
    with worker(celery) as stopping:
        pid = celery.started(run_id)["pid"]
        stopping.process.terminate()
        until(lambda: "Warm shutdown" in stopping.log)
        waits = celery.send()
        states: set[str] = set()
        while len(states) < 6:  # for longer than after which it would be lost
            states.add(str(celery.launcher._engine.state(run_id)))
            assert health(celery, run_id) == WorkerStatus.RUNNING
        assert celery.launcher.terminate(run_id)
        assert celery.ended(run_id) == DagsterRunStatus.CANCELED
        assert stopping.process.wait(30) == 0
    assert gone(pid)
    assert celery.begun() == [run_id]
    assert celery.waits(waits)


def test_a_run_whose_task_is_lost_does_not_wait(celery: Celery, broker: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(celery_engine, "FRESH_SECONDS", 0.0)
    run_id = celery.send()
    assert celery.waits(run_id)
    monkeypatch.setattr(celery_launcher, "LOST_SECONDS", 0.0)
    assert celery.waits(run_id), "its task is in the broker"
    with Redis.from_url(broker) as client:
        client.flushall()
    assert not celery.waits(run_id)
    assert celery.launcher.is_lost(celery.run(run_id))
    monkeypatch.setattr(celery_launcher, "LOST_SECONDS", 60.0)
    assert celery.waits(run_id), "a worker may just have taken it"


def test_a_row_whose_run_is_lost_is_launched_again(
    reports: Celery, client: ReportQueueClient, monkeypatch: pytest.MonkeyPatch
):
    row = dispatched()
    run = run_for(reports.instance, row, DagsterRunStatus.STARTING)
    reports.instance.add_run_tags(
        run.run_id, {"dagster-celery/task_id": run.run_id, "reportqueue/celery_queue": "dagster.1"}
    )
    assert reconcile(reports.instance, client, [row.claimed_by]).kept_waiting == 1
    monkeypatch.setattr(celery_launcher, "LOST_SECONDS", 0.0)
    assert reconcile(reports.instance, client, [row.claimed_by]).runs_cancelled == 1
    assert reports.status(run.run_id) == DagsterRunStatus.CANCELED
    assert reconcile(reports.instance, client, [row.claimed_by]).launched_again == 1
    assert (status(row), row.unstarted_runs) == (Status.QUEUED, 0)


def test_a_run_of_which_no_task_was_sent_is_not_there(reports: Celery):
    run = run_for(reports.instance, dispatched(), DagsterRunStatus.STARTING)
    assert health(reports, run.run_id) == WorkerStatus.NOT_FOUND
    assert not reports.waits(run.run_id)
    assert reports.launcher.terminate(run.run_id)
    assert reports.status(run.run_id) == DagsterRunStatus.CANCELED


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_that_has_not_ended_with_its_task_has_failed(celery: Celery, ended: bool):
    run_id = celery.send()
    celery.launcher.celery.backend.store_result(run_id, None, "SUCCESS")
    if ended:
        celery.instance.report_run_canceled(celery.run(run_id))
    assert health(celery, run_id) == (WorkerStatus.SUCCESS if ended else WorkerStatus.FAILED)


def test_the_broker_has_no_password_of_dagsters_storage(celery: Celery, broker: str):
    celery.send()
    with Redis.from_url(broker) as client:
        (task,) = client.lrange("dagster.1\x06\x164", 0, -1)
    assert b"postgres" not in task + b64decode(json.loads(task)["body"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "rpc://"}, r"cannot use the result backend rpc://.*Set backend .* redis://HOST/1"),
        ({"backend": None}, r"cannot use the result backend disabled://"),
        ({"backend": "redis://b", "code_version": "a,b"}, r"code_version .*'a,b'"),
        ({"backend": "redis://b", "warm_at_start": ["reports"]}, r"module:attribute.*'reports'"),
    ],
)
def test_options_that_cannot_work_are_refused_with_the_remedy(options: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        ReportCeleryRunLauncher(default_queue="dagster", broker="redis://b", **options)


@pytest.mark.parametrize(("url", "middle", "first"), [("redis://b", 4, 0), ("pyamqp://b", 5, 9)])
def test_the_first_priority_is_that_of_the_broker(celery: Celery, url: str, middle: int, first: int):
    launcher = ReportCeleryRunLauncher(default_queue="dagster", broker=url, backend="redis://b")
    run = celery.run(celery.create())
    assert launcher._priority_of(run) == middle
    assert launcher._priority_of(run.with_tags({"dagster/priority": "50"})) == first
    assert launcher._priority_of(run.with_tags({"dagster/priority": "high"})) == middle


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pool", "solo"], "start the worker with --pool prefork, not celery.concurrency.solo"),
        (["--max-tasks-per-child", "2"], "start the worker without --max-tasks-per-child"),
    ],
)
def test_a_worker_whose_runs_would_share_a_process_does_not_start(celery: Celery, options: list[str], said: str):
    assert said in refusal(*options)


def test_a_worker_without_the_launcher_in_its_instance_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert "must be the class ReportCeleryRunLauncher" in refusal()
    monkeypatch.delenv("DAGSTER_HOME")
    assert "DAGSTER_HOME must name the folder with dagster.yaml" in refusal()
