"""Lists beside a long history: they show what a plain sorted query would, and read no more rows than they show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reportqueue import queue
from reportqueue.admin.changelists import BoundedPaginator
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import FINAL, UNFINISHED, Source, Status
from tests.conftest import ClientFactory, RowFactory, build_row, build_schedule, minutes_ago
from tests.integration.test_admin_permissions import QUEUE, staff
from tests.integration.test_api_listing import ADDRESS, ids, pages

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HISTORY = 20_000
READ = 3_000
"""So many rows may be read for a list, its count included: far fewer than the history has."""


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    """The client of somebody who may look."""
    return client_with("view_reportqueue")


@pytest.fixture
def viewer(db: None) -> Client:
    """The browser of somebody who may look."""
    return staff("view_reportqueue")


@pytest.fixture
def random_rows(db: None) -> list[ReportQueue]:
    """Rows of every status, with ties in everything by which lists are ordered; some wait for their turn."""
    random, rows = Random(7), []
    for number in range(70):
        status = random.choice(list(Status))
        waits = status in UNFINISHED and random.random() < 0.3
        rows.append(
            build_row(
                status=status,
                source=random.choice(list(Source)),
                report_id=random.randrange(3),
                modifier_id=random.randrange(3),
                priority=random.choice([-1, 0, 0, 1]),
                trigger_time=NOON + timedelta(minutes=random.randrange(6)),
                available_at=NOON + timedelta(minutes=random.randrange(6)),
                **({"waiting": True, "concurrency_key": number} if waits else {}),
            )
        )
    return rows


def in_claim_order(row: ReportQueue) -> Any:
    return -row.priority, row.available_at, row.pk


def by_trigger_time(row: ReportQueue) -> Any:
    return row.trigger_time, row.pk


AFTER, BEFORE = NOON + timedelta(minutes=2), NOON + timedelta(minutes=4)
LISTS: dict[str, tuple[Callable[[ReportQueue], bool], Callable[[ReportQueue], Any]]] = {
    "": (lambda row: row.status in UNFINISHED, in_claim_order),
    "processed=any": (lambda row: True, by_trigger_time),
    "processed=true": (lambda row: row.status in FINAL, by_trigger_time),
    "status=queued": (lambda row: row.status == "queued", in_claim_order),
    "status=queued&status=running": (lambda row: row.status in ("queued", "running"), in_claim_order),
    "status=failed": (lambda row: row.status == "failed", by_trigger_time),
    "status=failed&status=skipped": (lambda row: row.status in ("failed", "skipped"), by_trigger_time),
    "status=failed&status=queued": (lambda row: row.status in ("failed", "queued"), by_trigger_time),
    "source=api": (lambda row: row.source == "api" and row.status in UNFINISHED, in_claim_order),
    "source=api&processed=any": (lambda row: row.source == "api", by_trigger_time),
    "source=api&source=code&processed=true": (
        lambda row: row.source in ("api", "code") and row.status in FINAL,
        by_trigger_time,
    ),
    "report_id=1&processed=any": (lambda row: row.report_id == 1, by_trigger_time),
    "report_id=1&source=api&source=code&processed=any": (
        lambda row: row.report_id == 1 and row.source in ("api", "code"),
        by_trigger_time,
    ),
    "modifier_id=2&status=failed&status=cancelled": (
        lambda row: row.modifier_id == 2 and row.status in ("failed", "cancelled"),
        by_trigger_time,
    ),
    f"trigger_time_after={AFTER:%Y-%m-%dT%H:%M:%SZ}&trigger_time_before={BEFORE:%Y-%m-%dT%H:%M:%SZ}&processed=any": (
        lambda row: AFTER <= row.trigger_time < BEFORE,
        by_trigger_time,
    ),
    "status=failed&processed=false": (lambda row: False, by_trigger_time),
}


@pytest.mark.parametrize("query", LISTS)
def test_pages_of_the_api_are_those_of_a_plain_sorted_list(api: APIClient, random_rows: list[ReportQueue], query: str):
    wanted, order = LISTS[query]
    expected = [row.pk for row in sorted(filter(wanted, random_rows), key=order)]
    for limit in (17, 100):
        forwards = list(pages(api, f"{ADDRESS}?{query}&limit={limit}"))
        assert [pk for page in forwards for pk in ids(page)] == expected
        backwards = [ids(page) for page in pages(api, forwards[-1]["previous"] or "", "previous")]
        assert [pk for page in reversed(backwards) for pk in page] == expected[: len(expected) - len(ids(forwards[-1]))]


@pytest.mark.parametrize(
    ("query", "wanted"),
    {
        "": lambda row: True,
        "source=api": lambda row: row.source == "api",
        "report_id=1": lambda row: row.report_id == 1,
        "report_id=1&modifier_id=2": lambda row: row.report_id == 1 and row.modifier_id == 2,
        "modifier_id=2&source=code": lambda row: row.modifier_id == 2 and row.source == "code",
        "q=report:1": lambda row: row.report_id == 1,
        "processed=yes&source=api": lambda row: row.source == "api" and row.status in FINAL,
        "processed=no": lambda row: row.status in UNFINISHED,
        "status=failed&report_id=1": lambda row: row.status == "failed" and row.report_id == 1,
        "source=admin&q=nothing": lambda row: False,
    }.items(),
)
def test_pages_of_the_admin_are_those_of_a_plain_sorted_list(
    viewer: Client,
    random_rows: list[ReportQueue],
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    wanted: Callable[[ReportQueue], bool],
):
    monkeypatch.setattr("reportqueue.admin.queue.ReportQueueAdmin.list_per_page", 25)
    for order, by, reverse in (("", by_trigger_time, True), ("&o=0", lambda row: row.pk, False)):  # a column's number
        expected = [row.pk for row in sorted(filter(wanted, random_rows), key=by, reverse=reverse)]
        shown: list[int] = []
        for page in range(1, max(2, -(-len(expected) // 25) + 1)):
            lines = viewer.get(f"{QUEUE}?{query}{order}&p={page}").context["cl"]
            assert lines.result_count == len(expected)
            shown += [row.pk for row in lines.result_list]
        assert shown == expected, order
        everything = viewer.get(f"{QUEUE}?{query}{order}&all=").context["cl"].result_list
        assert [row.pk for row in everything] == expected


@pytest.fixture
def history(db: None) -> ReportSchedule:
    """A long history; what the planner expects of it is wrong: the rare rows are all old.

    Source `webhook`, report 9 and modifier 9 have ended long ago; `failed` and `cancelled` are rare and old.
    """
    schedule = build_schedule()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO reportqueue_reportqueue (report_id, modifier_id, trigger_time, available_at, finished_at,
                status, source, params, priority, generation, attempt, max_attempts, launch_failures, claimed_by,
                run_id, cancel_requested, error, idempotency_key, schedule_id)
            SELECT CASE WHEN old THEN 9 ELSE n %% 8 END, CASE WHEN old THEN 9 ELSE n %% 7 END, due, due, due,
                CASE WHEN NOT old THEN 'succeeded' WHEN n %% 2 = 0 THEN 'failed' ELSE 'cancelled' END,
                CASE WHEN old THEN 'webhook' WHEN n %% 20 = 0 THEN 'schedule' ELSE 'api' END, '{}', 0, 0, 0, 3, 0, '',
                gen_random_uuid()::text, false, '', 'order-' || n, CASE WHEN n %% 20 = 0 THEN %s END
            FROM (SELECT n, n > %s - 1000 AS old, now() - n * interval '1 min' AS due
                  FROM generate_series(1, %s) n) AS row
            """,
            [schedule.pk, HISTORY, HISTORY],
        )
    for number in range(60):
        build_row(status=Status.RUNNING if number % 3 == 0 else Status.QUEUED, source=Source.CODE)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE reportqueue_reportqueue")
    return schedule


def rows_read(call: Callable[[], object]) -> int:
    """How many rows of the queue's table the statements of a call read, of which a condition may refuse most."""
    with CaptureQueriesContext(connection) as ran:
        call()
    read = 0
    with connection.cursor() as cursor:
        for statement in [query["sql"] for query in ran if 'FROM "reportqueue_reportqueue"' in query["sql"]]:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
            (answer,) = cursor.fetchone()
            (plan,) = json.loads(answer) if isinstance(answer, str) else answer
            read += sum(_read(node) for node in _nodes(plan["Plan"]))
    return read


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


def _read(node: dict[str, Any]) -> int:
    """The rows that a scan reads."""
    if node.get("Relation Name") != "reportqueue_reportqueue":
        return 0
    refused = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    return round((node["Actual Rows"] + refused) * node["Actual Loops"])


def ago(minutes: float) -> str:
    return f"{minutes_ago(minutes):%Y-%m-%dT%H:%M:%SZ}"


def test_a_page_of_the_api_reads_few_rows_of_a_long_history(api: APIClient, history: ReportSchedule):
    queries = ["", "processed=any", "processed=true", *(f"status={status}" for status in Status)]
    queries += ["status=failed&status=cancelled", "status=succeeded&status=queued", "status=failed&processed=false"]
    queries += [f"source={source}{processed}" for source in Source for processed in ("", "&processed=any")]
    queries += ["source=webhook&source=admin&processed=true", "status=succeeded&source=webhook"]
    queries += [f"{name}=9{processed}" for name in ("report_id", "modifier_id") for processed in ("", "&processed=any")]
    queries += ["claimed_by=sensor", "claimed_by=sensor&claimed_by=nobody&status=dispatched"]
    queries += ["report_id=3&modifier_id=3&processed=true", f"trigger_time_after={ago(200)}&processed=any"]
    queries += [f"trigger_time_after={ago(HISTORY / 2)}&processed=true", f"trigger_time_before={ago(5)}&processed=any"]
    for query in queries:
        assert rows_read(lambda asked=query: api.get(f"{ADDRESS}?{asked}")) < READ, query  # type: ignore[misc]
    for query in ("processed=any", "processed=true", "source=api&processed=any", "report_id=3&processed=any"):
        # A place in the middle: what lies before it and after it is long.
        middle = api.get(f"{ADDRESS}?{query}&trigger_time_after={ago(HISTORY / 2)}").json()["next"]
        cursor = middle.split("cursor=")[1]
        following = f"{ADDRESS}?{query}&cursor={cursor}"
        assert rows_read(lambda: api.get(following)) < READ, query  # noqa: B023
        previous = api.get(following).json()["previous"]
        assert rows_read(lambda: api.get(previous)) < READ, query  # noqa: B023


def test_a_page_of_the_admin_reads_few_rows_of_a_long_history(
    viewer: Client, history: ReportSchedule, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(BoundedPaginator, "LIMIT", 500)
    row = ReportQueue.objects.filter(source=Source.API).order_by("trigger_time")[0]
    queries = ["", "p=5", "processed=no", "processed=yes", *(f"status={status}" for status in Status)]
    queries += [
        *(f"source={source}" for source in Source),
        "source=webhook&status=succeeded",
        "source=api&status=failed",
    ]
    queries += ["report_id=9", "modifier_id=9", "report_id=3&modifier_id=3", f"schedule={history.pk}"]
    queries += ["due_from=2000-01-01", "due_until=2000-01-01", f"due_from={minutes_ago(2000):%Y-%m-%d}"]
    queries += ["q=report:9", "q=modifier:9", f"q=id:{row.pk}", f"q={row.pk}", f"q=schedule:{history.pk}"]
    queries += [
        f"q=run:{row.run_id[:8]}",
        "q=run:nothing",
        f"q={row.run_id}",
        "q=nothing",
        "q=key:order-7",
        "q=order-7",
    ]
    for query in queries:
        assert rows_read(lambda asked=query: viewer.get(f"{QUEUE}?{asked}")) < READ, query  # type: ignore[misc]


def test_probes_and_polls_read_no_finished_row(api: APIClient, history: ReportSchedule):
    for path in ("/status", "/api/pending-reports/"):
        assert rows_read(lambda address=path: api.get(address)) < READ, path  # type: ignore[misc]


def test_a_batch_of_prune_reads_the_rows_that_are_kept_once_for_all(make_row: RowFactory):
    old = {"trigger_time": minutes_ago(600), "status": Status.SUCCEEDED}
    for modifier in range(50):
        make_row(modifier_id=modifier, finished_at=minutes_ago(500), **old)
    for number in range(12):
        make_row(modifier_id=1000, finished_at=minutes_ago(400 - number), **old)
    with CaptureQueriesContext(connection) as ran:
        assert sum(done.deleted for done in queue.prune(older_than=timedelta(hours=1), keep=2, batch=4)) == 10
    chosen = [query["sql"] for query in ran if "SKIP LOCKED" in query["sql"]]
    assert len(chosen) == 3
    with connection.cursor() as cursor:
        # As beside a long history: by the index of `finished_at`, in its order.
        for way in ("seqscan", "bitmapscan", "sort"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
        for statement in chosen[1:]:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
            (((plan,),),) = [cursor.fetchone()]
            assert sum(_read(node) for node in _nodes(plan["Plan"])) < 30
