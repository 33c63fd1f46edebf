"""`/metrics`: what it says, who may read it, and what it does when the database is slow or away."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test import Client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from reportqueue import bounds, measures, queue, totals
from reportqueue.conf import Conf
from reportqueue.metrics import page, readings
from reportqueue.metrics.shared import Busy, Shared
from reportqueue.models import MeasureTotal, Report, ReportConsumer, ReportSchedule
from reportqueue.models.measure import OTHERS
from reportqueue.patterns import Pattern
from reportqueue.queue import RouteDepth
from reportqueue.states import Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_health import unreachable
from tests.integration.test_measures import NOON, ended, measured

__all__ = ["unreachable"]
TOKEN = "a-token-of-the-tests"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _read_anew() -> None:
    page.readings.forget()


def samples(client: Client, **headers: str) -> Samples:
    """Each sample of the page by its name and labels."""
    page.readings.forget()
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.content
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in parse_text(answer.content.decode())
        for one in family.samples
    }


def key(name: str, /, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The key of a sample."""
    return f"reportqueue_{name}", tuple(sorted(labels.items()))


def test_it_says_what_waits_and_runs(client: Client, make_row: RowFactory):
    make_row(available_at=minutes_ago(7), trigger_time=minutes_ago(7), route="slow")
    make_row(deadline_at=minutes_ago(1))
    make_row(available_at=minutes_ago(-5), generation=1)
    make_row(status=Status.RUNNING, route="slow")
    make_row(status=Status.CLAIMED)
    make_row(status=Status.FAILED)
    found = samples(client)
    rows = {status: found[key("rows", status=status)] for status in ("queued", "claimed", "dispatched", "running")}
    assert rows == {"queued": 3, "claimed": 1, "dispatched": 0, "running": 1}
    assert found[key("oldest_due_seconds")] == pytest.approx(420, abs=30)
    assert [found[key(name)] for name in ("late_rows", "retrying_rows", "failed_last_hour_rows")] == [1, 1, 1]
    assert {route: found[key("due_rows", route=route)] for route in ("slow", "default")} == {"slow": 1, "default": 1}
    assert found[key("in_flight_rows", route="slow", state="running")] == 1
    assert found[key("in_flight_rows", route="default", state="launched")] == 1


def test_it_says_what_does_not_move(client: Client, make_schedule: Callable[..., ReportSchedule]):
    make_schedule(next_run_at=minutes_ago(60))
    Report(report_id=7, name="Sales").save()
    queue.pause(route="slow")
    queue.pause(report_id=7)
    ReportConsumer.objects.create(pattern=Pattern.QUEUE, name="lane", seen_at=minutes_ago(10))
    found = samples(client)
    assert (found[key("stalled")], found[key("overdue_schedules")]) == (1, 1)
    assert found[key("paused", scope="queue", name="")] == 0
    assert found[key("paused", scope="route", name="slow")] == found[key("paused", scope="report", name="7")] == 1
    assert found[key("consumer_silent_seconds", pattern="queue", consumer="lane")] == pytest.approx(600, abs=30)
    queue.pause()
    assert samples(client)[key("paused", scope="queue", name="")] == 1


@pytest.mark.django_db
def test_measured_times_are_histograms_with_their_sums(client: Client):
    Report(report_id=1, name="Sales").save()
    for waited, ran in ((0.01, 3), (2, 30), (90, 4_000)):
        ended(NOON + timedelta(minutes=1), waited=waited, ran=ran)
    ended(NOON + timedelta(minutes=1), status=Status.FAILED, report_id=2)
    measured(NOON + timedelta(minutes=5))
    found = samples(client)
    assert found[key("report_info", report="1", name="Sales")] == 1
    assert found[key("ended_rows_total", report="1", status="succeeded")] == 3
    assert found[key("ended_rows_total", report="1", status="failed")] == 0
    assert found[key("ended_rows_total", report="2", status="failed")] == 1
    assert found[key("wait_seconds_count", report="1")] == found[key("wait_seconds_bucket", report="1", le="+Inf")] == 3
    assert found[key("wait_seconds_sum", report="1")] == pytest.approx(92.01, abs=0.01)
    assert found[key("run_seconds_sum", report="1")] == pytest.approx(4_033, abs=0.01)
    buckets = {one: count for one, count in found.items() if "run_seconds_bucket" in one[0]}
    at_most = {dict(labels)["le"]: count for (_, labels), count in buckets.items() if ("report", "1") in labels}
    exact = {edge: sum(ran <= float(edge) for ran in (3, 30, 4_000)) for edge in at_most}
    assert at_most == exact, "no time lies in a wrong bucket"
    assert found[key("measured_until_timestamp_seconds")] == (NOON + timedelta(minutes=5)).timestamp()


@pytest.mark.django_db
def test_the_buckets_go_from_a_moment_to_most_of_a_day(client: Client):
    for waited in (0.01, 0.2):
        ended(NOON + timedelta(minutes=1), waited=waited)
    measured(NOON + timedelta(minutes=5))
    counts = {
        dict(labels)["le"]: count
        for (name, labels), count in samples(client).items()
        if "wait_s" in name and "le" in dict(labels)
    }
    edges = [float(edge) for edge in counts]
    assert (edges[0], counts["0.05"], counts["+Inf"]) == (0.05, 1, 2)
    assert 16 < edges[-2] / 3600 < 18
    assert all(1.5 < wider / edge < 2.5 for edge, wider in pairwise(edges[:-1]))


@pytest.mark.django_db
def test_counters_do_not_fall_when_periods_are_deleted(client: Client):
    ended(NOON, report_id=1)
    measured(NOON + timedelta(minutes=5))
    before = samples(client)
    later = NOON + timedelta(days=20)
    ended(later, report_id=1)
    measured(later + timedelta(minutes=5))
    after = samples(client)
    for (name, labels), value in before.items():
        if name.endswith(("_total", "_bucket", "_count", "_sum")):
            assert after[name, labels] >= value, name
    assert after[key("ended_rows_total", report="1", status="succeeded")] == 2
    assert not measures.Measure.objects.filter(seconds=measures.SHORT, start__lt=later - timedelta(days=3)).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("version", ["x", "", "1.0.0=2", "a.b.c"])
def test_a_format_of_no_known_version_is_answered_all_the_same(client: Client, settings: Any, version: str):
    settings.REPORTQUEUE = {"METRICS_OPEN": True}
    for kind in ("text/plain", "application/openmetrics-text"):
        answer = client.get("/metrics", headers={"accept": f"{kind};version={version}"})
        assert answer.status_code == 200
        assert "reportqueue_stalled 0.0" in answer.content.decode()


@pytest.mark.django_db
def test_a_report_that_has_not_run_for_long_gives_its_place_to_another():
    ended(NOON, report_id=1)
    measured(NOON + timedelta(minutes=5))
    later = NOON + timedelta(days=40)
    ended(later, report_id=2)
    measured(later + timedelta(minutes=5))
    assert set(totals.read(10)) == {2}


@pytest.mark.django_db
def test_no_count_moves_from_one_label_to_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "MAX_METRICS_LABELS", 2)
    for report_id in (1, 2, 3):
        ended(NOON, report_id=report_id)
    measured(NOON + timedelta(minutes=5))
    assert {pk: total.ended["succeeded"] for pk, total in totals.read(2).items()} == {1: 1, 2: 1, OTHERS: 1}
    for report_id in (2, 3, 3, 3, 4):  # 3 is the busiest now, and has no place
        ended(NOON + timedelta(minutes=6), report_id=report_id)
    measured(NOON + timedelta(minutes=10))
    assert {pk: total.ended["succeeded"] for pk, total in totals.read(2).items()} == {1: 1, 2: 2, OTHERS: 5}
    assert {pk: total.ended["succeeded"] for pk, total in totals.read(1).items()} == {1: 1, OTHERS: 7}
    assert set(MeasureTotal.objects.values_list("report_id", flat=True)) == {1, 2, OTHERS}


@pytest.mark.django_db
def test_the_count_of_all_others_stays_when_a_report_is_forgotten():
    old, fresh = NOON - timedelta(days=40), NOON

    def measured(report_id: int, count: int, since: datetime, until: datetime) -> None:
        values = {"report_id": report_id, "bin": 0, "count": count, "since": since, "until": until}
        MeasureTotal.objects.create(what="succeeded", total=0, **values)
        MeasureTotal.objects.create(what="run", total=2.0 * count, **values)

    def others() -> tuple[int, float]:
        found = totals.read(2)[OTHERS]
        return found.ended["succeeded"], found.ran.total

    measured(1, 1, old, old)
    measured(2, 10, old + timedelta(days=1), fresh)
    measured(3, 100, old + timedelta(days=2), fresh)
    measured(4, 1_000, old + timedelta(days=3), fresh)
    measured(5, 10_000, old, old + timedelta(days=4))
    MeasureTotal.objects.filter(report_id=5).update(since=old + timedelta(days=4))
    for _ in range(2):
        assert others() == (11_100, 22_200.0)
        totals.forget(fresh - timedelta(days=35), most=2)
    assert set(totals.read(10)) == {2, 3, 4, OTHERS}
    assert totals.read(2)[3].ended["succeeded"] == 100


def test_the_number_of_labels_is_bounded(client: Client, settings: Any, make_row: RowFactory):
    settings.REPORTQUEUE = {"METRICS_OPEN": True, "METRICS_LABELS": 2}
    for route, count in (("a", 1), ("b", 3), ("c", 2), ("other", 1)):
        for _ in range(count):
            make_row(route=route)
    for number in range(4):
        ReportConsumer.objects.create(pattern=Pattern.QUEUE, name=f"lane-{number}", seen_at=minutes_ago(number))
        queue.pause(report_id=number)
    found = samples(client)
    due = {dict(labels)["route"]: count for (name, labels), count in found.items() if name == "reportqueue_due_rows"}
    assert due == {"b": 3, "c": 2, "other": 2}
    seen = {dict(labels)["consumer"]: value for (name, labels), value in found.items() if "silent" in name}
    assert set(seen) == {"lane-0", "lane-1", "other"}
    assert seen["other"] == pytest.approx(120, abs=30), "that of the last one to ask"
    assert found[key("paused", scope="report", name="other")] == 2


def test_rows_are_counted_up_to_a_bound(client: Client, make_row: RowFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readings, "COUNTED", 2)
    for _ in range(4):
        make_row()
    found = samples(client)
    assert found[key("rows", status="queued")] == found[key("due_rows", route="default")] == 2


def test_routes_are_counted_each_up_to_the_bound(make_row: RowFactory):
    for route in ("a", "a", "a", "b"):
        make_row(route=route)
    make_row(route="c", available_at=minutes_ago(-5))
    make_row(route="c", status=Status.RUNNING)
    assert queue.depths_of_routes(2, most=9) == {"a": RouteDepth(2), "b": RouteDepth(1), "c": RouteDepth(0, 0, 1)}
    assert set(queue.depths_of_routes(2, most=1)) == {"a", "c"}


@pytest.mark.django_db
def test_prometheus_chooses_the_format(client: Client):
    ended(NOON + timedelta(minutes=1))
    measured(NOON + timedelta(minutes=5))
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(answer.content.decode())} >= {
        "reportqueue_rows",
        "reportqueue_wait_seconds",
    }
    assert client.get("/metrics")["Content-Type"].startswith("text/plain")
    assert "no-store" in answer["Cache-Control"]


def test_nobody_may_read_it_unless_it_is_said(client: Client, settings: Any):
    settings.REPORTQUEUE = {}
    answer = client.get("/metrics")
    assert (answer.status_code, answer.content.decode()) == (403, f"{page.CLOSED}\n")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("", 401),
        (TOKEN, 401),
        (f"Token {TOKEN}", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer \xe9", 401),
        (f"Bearer {TOKEN}", 200),
    ],
)
def test_a_token_is_asked_for(client: Client, db: None, settings: Any, given: str, code: int):
    settings.REPORTQUEUE = {"METRICS_TOKEN": TOKEN}
    answer = client.get("/metrics", headers={"Authorization": given} if given else {})
    assert answer.status_code == code
    assert answer.has_header("WWW-Authenticate") is (code == 401)


@pytest.mark.parametrize(
    "wrong",
    [{"METRICS_TOKEN": "short"}, {"METRICS_TOKEN": None}, {"METRICS_OPEN": "1"}, {"METRICS_LABELS": 0},
     {"METRICS_OPEN": True, "METRICS_TOKEN": TOKEN}],
)  # fmt: skip
def test_a_wrong_setting_is_found(settings: Any, wrong: dict[str, Any]):
    settings.REPORTQUEUE = wrong
    (found,) = [one for one in run_checks() if one.id == "reportqueue.E001"]
    assert next(iter(wrong)) in found.msg


def test_it_may_not_be_written_to(client: Client):
    assert client.post("/metrics").status_code == 405


def test_without_a_database_it_says_so_at_once(unreachable: None, client: Client):
    began = time.monotonic()
    answer = client.get("/metrics")
    assert (answer.status_code, answer.content.decode()) == (503, "The database does not answer.\n")
    assert time.monotonic() - began < 2


@pytest.mark.django_db(transaction=True)
def test_a_locked_table_does_not_hold_it(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reportqueue.health.PROBE_SECONDS", 0.3)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE reportqueue_reportqueue")
            began = time.monotonic()
            assert client.get("/metrics").status_code == 503
            assert time.monotonic() - began < 3
            cursor.execute("ROLLBACK")
    finally:
        other.close()


@pytest.mark.django_db
def test_statements_that_are_slow_together_end_it(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readings, "DEADLINE_SECONDS", -1)
    assert client.get("/metrics").status_code == 503


@pytest.mark.django_db
def test_what_was_just_read_is_used_again(client: Client, django_assert_num_queries: Any):
    client.get("/metrics")
    with django_assert_num_queries(0):
        assert client.get("/metrics").status_code == 200


@pytest.mark.django_db
def test_the_number_of_queries_does_not_grow(client: Client, make_row: RowFactory, django_assert_max_num_queries: Any):
    for number in range(30):
        make_row(route=f"r{number}", report_id=number)
    with django_assert_max_num_queries(40):
        samples(client)


def test_of_many_callers_one_reads():
    reads, calls = [], 20
    meet = threading.Barrier(calls)

    def read() -> int:
        reads.append(1)
        time.sleep(0.1)
        return 7

    shared, got = Shared(read, 5, 3), []

    def call() -> None:
        meet.wait()
        got.append(shared.get())

    threads = [threading.Thread(target=call) for _ in range(calls)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (got, len(reads)) == ([7] * calls, 1)


def test_a_second_call_waits_for_the_answer_of_the_first(db: None, monkeypatch: pytest.MonkeyPatch):
    found = readings.read(5)
    go, reads = threading.Event(), []

    def read() -> readings.Readings:
        reads.append(1)
        go.wait(10)
        return found

    monkeypatch.setattr(page.readings, "_read", read)
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(Client().get, "/metrics")
        while not reads:
            time.sleep(0.01)
        second = callers.submit(Client().get, "/metrics")
        assert not wait([second], timeout=0.3).done, "it is answered while the first one reads"
        go.set()
        assert (first.result(10).status_code, second.result(10).status_code) == (200, 200)
    assert len(reads) == 1


def test_a_caller_does_not_wait_for_long():
    go, reading = threading.Event(), threading.Event()

    def read() -> int:
        reading.set()
        go.wait(10)
        return 7

    shared = Shared(read, 5, 0.05)
    first = threading.Thread(target=shared.get)
    first.start()
    reading.wait(10)
    with pytest.raises(Busy):
        shared.get()
    go.set()
    first.join()
    assert shared.get() == 7


def test_an_error_is_not_kept_for_long(monkeypatch: pytest.MonkeyPatch):
    answers: list[Any] = [ValueError("away"), 7]

    def read() -> int:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return int(found)

    shared = Shared(read, 5, 1)
    for _ in range(2):
        with pytest.raises(ValueError, match="away"):
            shared.get()
    monkeypatch.setattr(shared, "_until", 0.0)
    assert shared.get() == 7


def test_a_metrics_address_that_nobody_can_read_is_found(settings: Any):
    settings.REPORTQUEUE = {}
    assert [one.id for one in run_checks() if one.id == "reportqueue.W006"] == ["reportqueue.W006"]
    settings.REPORTQUEUE = {"METRICS_TOKEN": TOKEN}
    assert not [one for one in run_checks() if one.id in ("reportqueue.W005", "reportqueue.W006")]


WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "prometheus_client" else found(name, *rest)
import django
django.setup()
from django.core.checks import run_checks
from django.test import Client
answer = Client(SERVER_NAME="localhost").get("/metrics")
print([one.msg for one in run_checks() if one.id == "reportqueue.W005"], answer.status_code)
"""


def test_without_the_library_there_is_no_address_and_the_check_says_why():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    text = "The addresses include reportqueue.metrics, but prometheus-client is not installed: there is no /metrics."
    assert done.stdout.strip() == f"{[text]} 404"


def test_it_answers_for_any_host_name(client: Client, db: None, settings: Any):
    settings.ALLOWED_HOSTS = ["reports.example.com"]
    assert client.get("/metrics", headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_by_default_it_is_closed():
    assert (Conf().metrics_open, Conf().metrics_token) == (False, "")
