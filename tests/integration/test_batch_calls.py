"""Several rows in one call: each has its own answer, and none fails another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from reportqueue import queue
from reportqueue.bounds import MAX_BATCH_ROWS
from reportqueue.errors import InvalidTransition, LeaseLost, RowBusy, RowNotFound
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Outcome, Status
from tests.conftest import ClientFactory, RowFactory, build_row, minutes_ago
from tests.integration.test_api_endpoints import post, tables


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("consume_reportqueue")


def named(*rows: ReportQueue, **more: Any) -> list[dict[str, Any]]:
    return [{"queue_id": row.pk, **more} for row in rows]


def with_tokens(*rows: ReportQueue, **more: Any) -> list[dict[str, Any]]:
    return [{"queue_id": row.pk, "lease_token": str(row.lease_token), **more} for row in rows]


def codes(answer: dict[str, Any]) -> list[tuple[int, int]]:
    return [(row["queue_id"], row["code"]) for row in answer["rows"]]


def test_rows_start_together_each_with_its_own_token_and_attempt(make_row: RowFactory):
    rows = [make_row(status=status) for status in (Status.CLAIMED, Status.DISPATCHED, Status.DISPATCHED)]
    again = make_row(status=Status.DISPATCHED, attempt=2, params={"year": 2026})
    answers = queue.start_many({row.pk: 1 for row in (*rows, again)}, run_id="run", worker="host:1", lease_seconds=600)
    assert list(answers) == [row.pk for row in (*rows, again)]
    for row in (*rows, again):
        given = answers[row.pk]
        row.refresh_from_db()
        assert (row.status, row.run_id, row.lease_token) == (Status.RUNNING, "run", given.lease_token)
        attempt = row.attempts.get()
        assert (attempt.lease_token, attempt.attempt, attempt.worker) == (row.lease_token, row.attempt, "host:1")
        assert row.lease_expires_at > minutes_ago(-9)
    assert [row.attempt for row in (*rows, again)] == [1, 1, 1, 3]
    assert len({row.lease_token for row in (*rows, again)}) == 4


def test_a_start_of_rows_that_have_moved_on_starts_the_others(make_row: RowFactory):
    good, mine = make_row(status=Status.DISPATCHED), make_row(status=Status.DISPATCHED)
    token = queue.start(mine.pk, generation=1, run_id="run").lease_token
    taken, ended = make_row(status=Status.RUNNING), make_row(status=Status.CANCELLED, generation=1)
    never, tried = make_row(), make_row(status=Status.DISPATCHED)
    ReportAttempt.objects.create(
        queue=tried,
        generation=1,
        attempt=1,
        run_id="run",
        lease_token=uuid4(),
        started_at=minutes_ago(2),
        finished_at=minutes_ago(1),
        outcome=Outcome.RELEASED,
    )
    named_ones = [good, mine, taken, ended, never, tried]
    before = {row["id"]: row for row in ReportQueue.objects.values()}
    answers = queue.start_many({**{row.pk: 1 for row in named_ones}, 10**9: 1}, run_id="run")
    assert answers[good.pk].status == Status.RUNNING
    assert answers[mine.pk].lease_token == token, "a repeat is answered as the first call was"
    for row in (taken, ended, never, tried):
        assert isinstance(answers[row.pk], InvalidTransition)
        assert answers[row.pk].current_status == row.status
        assert ReportQueue.objects.values().get(pk=row.pk) == before[row.pk]
    assert isinstance(answers[10**9], RowNotFound)


def test_a_re_execution_starts_its_finished_rows_afresh(make_row: RowFactory):
    rows = [make_row(status=Status.FAILED, run_id="parent", attempt=3) for _ in range(2)]
    waiting = make_row(status=Status.DISPATCHED, attempt=1)
    answers = queue.start_many({row.pk: 1 for row in (*rows, waiting)}, run_id="again", parent_run_id="parent")
    assert [answers[row.pk].attempt for row in (*rows, waiting)] == [1, 1, 2]


def test_leases_are_renewed_together_and_the_wish_to_cancel_is_its_rows_own(make_row: RowFactory):
    rows = [make_row(status=Status.RUNNING) for _ in range(3)]
    lost = make_row(status=Status.RUNNING)
    queue.cancel(rows[1].pk)
    before = ReportQueue.objects.values().get(pk=lost.pk)
    tokens = {row.pk: row.lease_token for row in rows} | {lost.pk: uuid4()}
    answers = queue.heartbeat_many(tokens, progress={rows[0].pk: "half"}, lease_seconds=3600)
    assert [answers[row.pk].cancel_requested for row in rows] == [False, True, False]
    assert isinstance(answers[lost.pk], LeaseLost)
    assert ReportQueue.objects.values().get(pk=lost.pk) == before
    for row, text in zip(rows, ["half", "", ""], strict=True):
        row.refresh_from_db()
        assert (row.attempts.get().progress, row.lease_expires_at > minutes_ago(-59)) == (text, True)


def test_rows_whose_run_waits_are_kept_together(make_row: RowFactory):
    waiting, started = make_row(status=Status.DISPATCHED, generation=2), make_row(status=Status.RUNNING, generation=2)
    newer = make_row(status=Status.DISPATCHED, generation=3)
    generations = {waiting.pk: 2, started.pk: 2, newer.pk: 2}
    answers = queue.renew_dispatch_many(generations, run_id="run", lease_seconds=3600)
    waiting.refresh_from_db()
    assert answers[waiting.pk].lease_expires_at == waiting.lease_expires_at > minutes_ago(-59)
    assert isinstance(answers[started.pk], InvalidTransition)
    assert isinstance(answers[newer.pk], LeaseLost)


def test_reports_are_completed_together_each_with_its_own_result(make_row: RowFactory):
    rows = [make_row(status=Status.RUNNING) for _ in range(5)]
    stale, done = make_row(status=Status.RUNNING), make_row(status=Status.RUNNING)
    queue.complete(done.pk, lease_token=done.lease_token, result={"rows": 7})
    results: dict[int, Any] = {
        rows[0].pk: {"flag": True},
        rows[1].pk: {"flag": 1},
        rows[2].pk: None,
        rows[3].pk: {"text": "a\x00b"},
        stale.pk: {},
        done.pk: {"rows": 7},
    }
    tokens = {row.pk: row.lease_token for row in (*rows, done)} | {stale.pk: uuid4()}
    before = ReportQueue.objects.values().get(pk=stale.pk)
    answers = queue.complete_many(tokens, results=results)
    kept = {row.pk: ReportQueue.objects.get(pk=row.pk) for row in rows}
    assert [repr(kept[row.pk].result) for row in rows] == ["{'flag': True}", "{'flag': 1}", "None", "None", "None"]
    assert ReportQueue.objects.filter(pk__in=[row.pk for row in rows], result__isnull=True).count() == 3
    assert [kept[row.pk].status for row in rows] == [Status.SUCCEEDED] * 3 + [Status.RUNNING, Status.SUCCEEDED]
    assert [row.attempts.get().outcome for row in rows] == ["succeeded"] * 3 + ["", "succeeded"]
    assert isinstance(answers[rows[3].pk], ValidationError)
    assert isinstance(answers[stale.pk], LeaseLost)
    assert answers[done.pk].result == {"rows": 7}
    assert ReportQueue.objects.values().get(pk=stale.pk) == before


def test_reports_that_end_together_pass_their_turns_on(make_row: RowFactory, make_schedule):
    schedules = [make_schedule(overlap="queue_one") for _ in range(2)]
    rows = [make_row(status=Status.RUNNING, schedule=schedule) for schedule in schedules]
    waiting = [make_row(schedule=row.schedule, waiting=True, trigger_time=minutes_ago(0)) for row in rows]
    queue.complete_many({row.pk: row.lease_token for row in rows}, results={})
    for row in waiting:
        row.refresh_from_db()
        assert not row.waiting


def test_many_rows_take_as_many_statements_as_a_few(make_row: RowFactory, django_assert_max_num_queries):
    rows = [make_row(status=Status.DISPATCHED) for _ in range(50)]
    with django_assert_max_num_queries(6):
        answers = queue.start_many({row.pk: 1 for row in rows}, run_id="run", lease_seconds=60)
    tokens = {pk: row.lease_token for pk, row in answers.items()}
    with django_assert_max_num_queries(4):
        queue.heartbeat_many(tokens, lease_seconds=60)
    with django_assert_max_num_queries(5):
        queue.complete_many(tokens, results={pk: {"rows": pk} for pk in tokens})
    assert {row.result["rows"] for row in ReportQueue.objects.filter(status=Status.SUCCEEDED)} == set(tokens)


@pytest.mark.django_db(transaction=True)
def test_two_runs_that_want_the_same_rows_share_them_without_a_deadlock():
    rows = [build_row(status=Status.DISPATCHED, claimed_by="sensor") for _ in range(60)]
    claim = uuid4()
    ReportQueue.objects.update(claim_id=claim, status=Status.CLAIMED, dispatched_at=None)
    pks = [row.pk for row in rows]

    def start(run: str, order: list[int]) -> set[int]:
        try:
            started, left = set(), order
            while left:  # on a busy machine another call may hold a row for longer than this one waits for it
                answers = queue.start_many(dict.fromkeys(left, 1), run_id=run)
                started |= {pk for pk, answer in answers.items() if isinstance(answer, ReportQueue)}
                left = [pk for pk, answer in answers.items() if isinstance(answer, RowBusy)]
            return started
        finally:
            connection.close()

    def acknowledge() -> set[int]:
        try:
            queue.claim("sensor", ack=claim, limit=1)
            return set()
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        calls = [
            pool.submit(start, "one", pks),
            pool.submit(start, "two", pks[::-1]),
            pool.submit(acknowledge),
            pool.submit(start, "three", pks[30:] + pks[:30]),
            pool.submit(acknowledge),
        ]
        started = [call.result(60) for call in calls]
    assert sum(map(len, started)) == 60, "each row has one owner"
    assert set().union(*started) == set(pks)
    assert ReportAttempt.objects.count() == 60


def test_the_api_answers_each_row_as_its_own_call_would_be(api: APIClient, make_row: RowFactory):
    good, taken = make_row(status=Status.DISPATCHED, params={"year": 2026}), make_row(status=Status.RUNNING)
    rows = [*named(taken, good, generation=1), {"queue_id": 10**9, "generation": 1}]
    answer = post(api, "start/", {"run_id": "run", "worker": "host:1", "rows": rows})
    assert codes(answer) == [(taken.pk, 409), (good.pk, 200), (10**9, 404)]
    refused, started, unknown = [row["answer"] for row in answer["rows"]]
    assert (refused["type"], refused["current_status"]) == ("invalid-state", "running")
    assert unknown["type"] == "not-found"
    good.refresh_from_db()
    assert started["lease_token"] == str(good.lease_token)
    assert (started["params"], started["attempt"], started["run_key"]) == ({"year": 2026}, 1, f"{good.pk}:1")

    beats = [*with_tokens(good, progress="half"), *named(taken, lease_token=str(uuid4()))]
    answer = post(api, "heartbeat/", {"rows": beats, "lease_seconds": 3600})
    assert codes(answer) == [(good.pk, 200), (taken.pk, 409)]
    assert parse_datetime(answer["rows"][0]["answer"]["lease_expires_at"]) > minutes_ago(-59)
    assert answer["rows"][0]["answer"]["cancel_requested"] is False
    assert answer["rows"][1]["answer"]["type"] == "stale-lease"

    made = [*with_tokens(good, result={"rows": 3}), *with_tokens(taken, result={"text": "x" * 70_000})]
    answer = post(api, "complete/", {"rows": made})
    assert codes(answer) == [(good.pk, 200), (taken.pk, 400)]
    assert answer["rows"][0]["answer"] == {"status": "succeeded"}
    assert "65,536" in answer["rows"][1]["answer"]["errors"]["result"][0]
    assert post(api, "complete/", {"rows": made[:1]})["rows"] == answer["rows"][:1], "a repeat is answered alike"


def test_the_api_keeps_rows_of_a_waiting_run(api: APIClient, make_row: RowFactory):
    row, started = make_row(status=Status.DISPATCHED), make_row(status=Status.RUNNING)
    body = {"run_id": "run", "lease_seconds": 3600, "rows": named(row, started, generation=1)}
    answer = post(api, "heartbeat/", body)
    assert codes(answer) == [(row.pk, 200), (started.pk, 409)]
    row.refresh_from_db()
    assert row.lease_expires_at > minutes_ago(-59)


@pytest.mark.parametrize("verb", ["start", "heartbeat", "complete"])
def test_a_row_that_is_named_twice_is_refused_and_nothing_changed(api: APIClient, make_row: RowFactory, verb: str):
    row = make_row(status=Status.DISPATCHED if verb == "start" else Status.RUNNING)
    rows = [*named(row, generation=1)] if verb == "start" else with_tokens(row)
    before = tables()
    refused = post(api, f"{verb}/", {**({"run_id": "run"} if verb == "start" else {}), "rows": rows * 2}, 400)
    assert "twice" in str(refused["errors"]["rows[1].queue_id"])
    assert tables() == before


@pytest.mark.parametrize("number", [0, MAX_BATCH_ROWS + 1])
def test_a_list_beyond_its_bounds_is_refused(api: APIClient, number: int):
    rows = [{"queue_id": n, "generation": 1} for n in range(number)]
    refused = post(api, "start/", {"run_id": "run", "rows": rows}, 400)
    assert list(refused["errors"]) == ["rows"]


def test_a_list_of_as_many_rows_as_are_allowed_is_taken(api: APIClient):
    rows = [{"queue_id": n, "generation": 1} for n in range(1, MAX_BATCH_ROWS + 1)]
    assert {code for _, code in codes(post(api, "start/", {"run_id": "run", "rows": rows}))} == {404}
