"""The whole demo, with a run's worker killed in the middle of its report; then with everything stopped."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import StartDemo
from tests.acceptance.demos import STOP_SECONDS, DemoProcess, clean_environment, http, processes_on

pytestmark = pytest.mark.timeout(600)  # a demo takes long on a busy machine
TRIES = 8
REPORT = {"report_id": 1, "modifier_id": 2012}
RUN_EVENTS = """query($run: ID!) { runOrError(runId: $run) { ... on Run { eventConnection { events {
  ... on MessageEvent { message }
  ... on ExecutionStepOutputEvent { metadataEntries { label ... on UrlMetadataEntry { url } } }
  ... on MaterializationEvent { metadataEntries { label ... on UrlMetadataEntry { url } } }
} } } } }"""


@pytest.fixture(scope="module")
def demo(start_demo: StartDemo, folder: Path) -> DemoProcess:
    """A demo that answers, with short leases: a killed run is soon missed."""
    demo = start_demo(folder / "kill", REPORT_LEASE_SECONDS="6", RETRY_BACKOFF_SECONDS="1")
    demo.wait_for_line("Ctrl-C stops everything")
    return demo


@pytest.fixture(scope="module")
def shop_token(demo: DemoProcess) -> str:
    """The token of a program that may enqueue; the consumer may not."""
    return demo.manage("create_consumer", "shop", "--producer").strip()


@pytest.fixture(scope="module")
def killed(demo: DemoProcess, shop_token: str) -> dict[str, Any]:
    """A report's row at its end; the worker of its first run was killed while the row was running."""
    for _ in range(TRIES):
        queue_id = _enqueue(demo, shop_token)
        item = demo.wait_for("the report runs", partial(_once_started, demo, queue_id), 60)
        while item["status"] == "running":
            if (worker := _worker(demo, item["run_id"])) is not None:
                worker.send_signal(signal.SIGKILL)
                worker.wait(10)
            item = demo.item(queue_id)
            if worker is not None and item["status"] == "running":
                return demo.wait_for("the report is made", partial(_once_final, demo, queue_id), 120)
    pytest.fail(f"{TRIES} reports were all made before their worker could be killed")


def test_report_of_a_killed_worker_is_made_by_a_later_attempt(killed: dict[str, Any]):
    assert killed["status"] == "succeeded"
    attempts = sorted(killed["attempts"], key=lambda attempt: attempt["attempt"])
    assert [attempt["outcome"] for attempt in attempts] == ["expired", "succeeded"]
    assert attempts[0]["run_id"] != attempts[1]["run_id"] == killed["run_id"]
    assert killed["run_id"] in killed["result"]["artifacts"]["report.html"]


def test_start_page_is_the_queue(demo: DemoProcess):
    answer = http("GET", f"{demo.web}/")
    assert (answer.status, answer.headers["Location"]) == (302, "/admin/reportqueue/reportqueue/")
    assert http("GET", f"{demo.web}/readyz").json() == {"status": "ready", "paused": []}


def test_report_page_is_shown_to_those_who_may_see_the_queue(demo: DemoProcess, killed: dict[str, Any]):
    url = killed["result"]["artifacts"]["report.html"]

    stranger = http("GET", url, Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert stranger.status == 302
    assert stranger.headers["Location"].startswith("/admin/login/?next=/artifacts/")
    assert http("GET", url).status == 401

    page = http("GET", url, Authorization=f"Token {demo.stored['REPORTQUEUE_TOKEN']}")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert b"<svg" in page.body


def test_run_whose_attempt_has_ended_cannot_change_the_report(demo: DemoProcess, killed: dict[str, Any]):
    url = killed["result"]["artifacts"]["report.html"]
    access = {"Authorization": f"Token {demo.stored['REPORTQUEUE_TOKEN']}"}
    before = http("GET", url, **access).body
    for attempt in killed["attempts"]:
        late = f"{demo.web}/artifacts/{attempt['run_id']}/{killed['queue_id']}/report.html"
        answer = http("PUT", late, b"too late", **access, **{"Content-Type": "text/html"})
        assert answer.status == 409, answer.body
    assert http("GET", url, **access).body == before


def test_dagsters_run_links_to_the_report(demo: DemoProcess, killed: dict[str, Any]):
    def links() -> dict[str, str]:
        entries = [entry for event in _events(demo, killed["run_id"]) for entry in event.get("metadataEntries", [])]
        return {entry["label"]: entry["url"] for entry in entries if "url" in entry}

    found = demo.wait_for("the run has its links", links, 30)
    assert found == killed["result"]["artifacts"]


def test_minutely_schedule_is_enqueued(demo: DemoProcess):
    def scheduled() -> list[dict[str, Any]]:
        ours = [item for item in demo.items() if item["source"] == "schedule"]
        return [item for item in ours if (item["report_id"], item["modifier_id"]) == (2, 1)]

    assert demo.wait_for("the schedule of every minute is due", scheduled, 90)[0]["schedule_id"]


def test_progress_is_shown_as_rows_move(demo: DemoProcess, killed: dict[str, Any]):
    lines = [line for line in demo.out.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert len(lines) > 3
    assert all(line != after for line, after in pairwise(lines))
    assert any(re.search(r"running \d", line) for line in lines)


def test_sigterm_ends_everything_in_time_and_nothing_else(demo: DemoProcess, shop_token: str):
    with _bystander(demo) as bystander:
        _enqueue(demo, shop_token)
        demo.wait_for("a run is under way", lambda: _with_status(demo, "running"), 60)
        assert len(processes_on(demo.data)) > 8

        code, seconds = demo.terminate()

        assert (code, demo.err) == (0, "")
        assert seconds < STOP_SECONDS
        assert list(processes_on(demo.data)) == [bystander.pid]
        assert bystander.poll() is None


def test_next_demo_keeps_the_data_and_ends_what_a_killed_one_has_left(demo: DemoProcess, start_demo: StartDemo):
    if demo.process.poll() is None:
        demo.terminate()

    second = start_demo(demo.data, ports=demo.ports)
    second.wait_for_line("Ctrl-C stops everything")
    assert second.stored == demo.stored
    ids = {item["queue_id"] for item in second.items()}
    assert ids
    # What was running has been given back by its run, or is missed when its lease ends; either way it is made.
    started = [item["queue_id"] for item in second.items() if item["attempt"]]
    second.wait_for(
        "what was begun is made", lambda: all(second.item(one)["status"] == "succeeded" for one in started), 120
    )
    second.process.kill()
    second.process.wait()
    left = processes_on(demo.data)
    assert len(left) > 5

    third = start_demo(demo.data, ports=demo.ports)
    third.wait_for_line("processes that a killed demo has left")
    third.wait_for_line("Ctrl-C stops everything")
    assert left.keys().isdisjoint(processes_on(demo.data))
    assert ids <= {item["queue_id"] for item in third.items()}
    code, seconds = third.terminate()
    assert (code, third.err) == (0, "")
    assert seconds < STOP_SECONDS
    assert processes_on(demo.data) == {}


def _enqueue(demo: DemoProcess, token: str) -> int:
    answer = demo.api("POST", "/api/report-queue/", REPORT, token)
    assert answer.status == 201, answer.body
    queue_id: int = answer.json()["queue_id"]
    return queue_id


def _once_started(demo: DemoProcess, queue_id: int) -> dict[str, Any] | None:
    item = demo.item(queue_id)
    return item if item["status"] == "running" or item["processed"] else None


def _once_final(demo: DemoProcess, queue_id: int) -> dict[str, Any] | None:
    item = demo.item(queue_id)
    return item if item["processed"] else None


def _with_status(demo: DemoProcess, *wanted: str) -> list[dict[str, Any]]:
    return [item for item in demo.items() if item["status"] in wanted]


def _events(demo: DemoProcess, run_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = demo.graphql(RUN_EVENTS, run=run_id)["runOrError"]["eventConnection"]["events"]
    return events


def _worker(demo: DemoProcess, run_id: str) -> psutil.Process | None:
    """The process that makes a run's report, which must be one of the demo's."""
    for event in _events(demo, run_id):
        if found := re.search(r"Executing steps in process \(pid: (\d+)\)", event.get("message", "")):
            try:
                process = psutil.Process(int(found[1]))
                return process if process.environ()["REPORTQUEUE_DATA_DIR"] == str(demo.data) else None
            except psutil.NoSuchProcess:
                return None
    return None


@contextmanager
def _bystander(demo: DemoProcess) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody's own process on the same data, its command much like the demo's."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()", "manage.py", "enqueue_due_reports", "--loop"],
        env=clean_environment(REPORTQUEUE_DATA_DIR=str(demo.data), REPORTQUEUE_URL=demo.web),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
