"""The counters of the Dagster side: one file for sensors and runs, whatever process they are in."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from prometheus_client.parser import text_string_to_metric_families

from dagster_reportqueue import counters
from dagster_reportqueue.client import ApiUnreachable
from dagster_reportqueue.execution.report import ReportRun
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue.daemon import daemon
from tests.dagster_reportqueue.front import Fault, Front
from tests.dagster_reportqueue.runs import Runner, the_row
from tests.dagster_reportqueue.waiting import until


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that this process writes."""
    path = tmp_path / "reportqueue.prom"
    monkeypatch.setenv(counters.VARIABLE, str(path))
    counters._counted.clear()
    yield path
    counters._counted.clear()


def samples(path: Path) -> dict[str, float]:
    """Each sample by its name and the values of its labels, without buckets."""
    return {
        " ".join([one.name.removeprefix(counters.PREFIX), *one.labels.values()]): one.value
        for family in text_string_to_metric_families(path.read_text())
        for one in family.samples
        if not one.name.endswith("_bucket")
    }


def test_a_sensor_and_a_run_count_what_they_do(file: Path, instance: DagsterInstance):
    for _ in range(2):
        build_row()
    with daemon(instance) as sensor:
        sensor.tick()
        sensor.tick()
    found = samples(file)
    assert found["claims_total rows"] == found["claims_total nothing"] == 1
    assert found["claimed_rows_total"] == found["run_requests_total"] == 2
    assert found["call_seconds_count claim"] == 2
    assert found["call_seconds_count start"] == found["call_seconds_count complete"] == 2
    assert 0 < found["call_seconds_sum start"] < 10


def test_renewed_leases_are_counted_while_the_run_goes_on(file: Path, runner: Runner):
    build_row()

    def work(run: ReportRun) -> None:
        until(lambda: file.exists() and samples(file).get("lease_renewals_total renewed", 0) >= 1)

    assert runner.make(work).success
    assert the_row().status == Status.SUCCEEDED


def test_a_lease_that_another_run_may_have_now_is_counted_as_lost(file: Path, runner: Runner):
    row = build_row()

    def work(run: ReportRun) -> None:
        ReportQueue.objects.filter(pk=row.pk).update(lease_expires_at=minutes_ago(1))
        queue.rescue_expired()
        until(lambda: run.stop_requested())

    assert not runner.make(work).success
    found = samples(file)
    assert (found["lease_renewals_total lost"], "lease_renewals_total refused" in found) == (1, False)


def test_failed_launches_and_calls_are_counted(file: Path, front: Front, client: Any):
    row = build_row(status=Status.DISPATCHED, claimed_by="sensor")
    client.fail_launch(row.pk, generation=1, run_id="run", error="no slot")
    front.fail(Fault.DROP)
    fast = client.clone(retries=0)
    with pytest.raises(ApiUnreachable):
        fast.claim("sensor")
    fast.close()
    counters.save()
    found = samples(file)
    assert found["launch_failures_total"] == 1
    assert found["call_failures_total claim unreachable"] == 1


ADD = """
from dagster_reportqueue import counters
for _ in range(50):
    counters.count("claims_total", brought="rows")
    counters.save()
"""


def test_many_processes_lose_no_count(file: Path):
    processes = [subprocess.Popen([sys.executable, "-c", ADD]) for _ in range(4)]
    seen = []
    while any(one.poll() is None for one in processes):
        if file.exists():
            seen.append(samples(file)["claims_total rows"])
        time.sleep(0.01)
    assert samples(file) == {"claims_total rows": 200}
    assert seen == sorted(seen)
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_forked_process_counts_its_own_alone(file: Path):
    counters.count("claimed_rows_total", 5)
    if (pid := os.fork()) == 0:
        counters.count("claimed_rows_total", 2)
        counters.save()
        os._exit(0)
    os.waitpid(pid, 0)
    counters.save()
    assert samples(file) == {"claimed_rows_total": 7}


def test_a_time_is_in_each_bucket_that_is_wide_enough(file: Path, monkeypatch: pytest.MonkeyPatch):
    times = iter([10.0, 10.7])
    monkeypatch.setattr("dagster_reportqueue.counters.time.monotonic", lambda: next(times, 99.0))
    with counters.timed(counters.CALL_SECONDS, call="claim"):
        pass
    counters.save()
    (family,) = text_string_to_metric_families(file.read_text())
    assert family.type == "histogram"
    found = {one.labels["le"]: one.value for one in family.samples if one.name.endswith("_bucket")}
    assert found == {edge: float(float(edge) >= 0.7) for edge in (*(f"{one:g}" for one in counters.SECONDS), "+Inf")}


def test_a_writer_that_hangs_holds_nobody_up_and_no_count_is_lost(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counters, "LOCK_SECONDS", 0.05)
    counters.count("claimed_rows_total")
    with file.with_name(f".{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        counters.save()
        assert not file.exists()
    counters.save()
    assert samples(file) == {"claimed_rows_total": 1}


@pytest.mark.parametrize("content", ["somebody_elses 1\n", "\x00", "x" * (counters.MAX_BYTES + 1)])
def test_a_strange_file_is_left_as_it_is(file: Path, content: str, caplog: pytest.LogCaptureFixture, monkeypatch: Any):
    monkeypatch.setattr(counters, "_warned", False)
    file.write_text(content)
    counters.count("claimed_rows_total")
    for _ in range(2):
        counters.save()
    assert file.read_text() == content
    assert len(caplog.records) == 1


def test_a_folder_that_is_missing_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner):
    monkeypatch.setenv(counters.VARIABLE, str(tmp_path / "missing" / "reportqueue.prom"))
    build_row()
    assert runner.make(lambda run: None).success
    counters._counted.clear()


def test_without_the_variable_nothing_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(counters.VARIABLE, raising=False)
    counters.count("claims_total", brought="rows")
    with counters.timed(counters.CALL_SECONDS, call="claim"):
        pass
    assert counters._counted == {}
