"""What one API user cannot do to another: go on with its rows, take its claims, use up its keys, or read its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from reportqueue import queue, tokens
from reportqueue.models import ApiToken, ReportQueue
from reportqueue.states import Status
from tests.conftest import ClientFactory, RowFactory, minutes_ago
from tests.integration.test_api_endpoints import build_fired_schedule, post, problem, tables

CONSUME = "consume_reportqueue"
KEY = {"report_id": 1, "modifier_id": 2, "idempotency_key": "order-7"}


@pytest.fixture
def first(client_with: ClientFactory) -> APIClient:
    """A consumer's user."""
    return client_with(CONSUME)


@pytest.fixture
def second(client_with: ClientFactory) -> APIClient:
    """Another one, with the same permissions."""
    return client_with(CONSUME)


def claim(api: APIClient, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = post(api, "claim/", {"consumer": "sensor", **more})
    return answer


def ids(claimed: dict[str, Any]) -> list[int]:
    return [row["queue_id"] for row in claimed["queue"]]


def expire() -> None:
    ReportQueue.objects.filter(lease_expires_at__isnull=False).update(lease_expires_at=minutes_ago(1))


def test_a_start_with_the_run_id_of_another_users_run_reveals_no_lease_token(
    first: APIClient, second: APIClient, make_row: RowFactory
):
    pk = make_row(params={"secret": 1}).pk
    claim(first)
    run = {"generation": 1, "run_id": "run"}
    token = post(first, f"{pk}/start/", run)["lease_token"]
    before = tables()
    refused = second.post(f"/api/report-queue/{pk}/start/", run, format="json")
    assert "another API user" in problem(refused, "held-by-another", 403)["detail"]
    assert token not in refused.content.decode()
    assert "secret" not in refused.content.decode()
    (row,) = post(second, "start/", {"run_id": "run", "rows": [{"queue_id": pk, "generation": 1}]})["rows"]
    assert (row["code"], row["answer"]["type"]) == (403, "held-by-another")
    assert tables() == before
    assert post(first, f"{pk}/start/", run)["lease_token"] == token, "its own run could not repeat the call"


CLAIMED: dict[str, Callable[[int], tuple[str, dict[str, Any]]]] = {
    "start": lambda pk: (f"report-queue/{pk}/start/", {"generation": 1, "run_id": "other"}),
    "renew": lambda pk: (f"report-queue/{pk}/heartbeat/", {"generation": 1, "run_id": "run"}),
    "fail": lambda pk: (f"report-queue/{pk}/fail/", {"generation": 1, "run_id": "run", "error": "no"}),
    "mark as processed": lambda pk: (f"reports/{pk}/mark-processed/", {}),
}


@pytest.mark.parametrize("verb", CLAIMED)
@pytest.mark.parametrize("acknowledged", [False, True], ids=["claimed", "dispatched"])
def test_a_row_of_another_users_claim_is_left_alone(
    first: APIClient, second: APIClient, make_row: RowFactory, verb: str, acknowledged: bool
):
    pk = make_row().pk
    claimed = claim(first)
    if acknowledged:
        claim(first, ack=claimed["claim_id"])
    before = tables()
    address, body = CLAIMED[verb](pk)
    problem(second.post(f"/api/{address}", body, format="json"), "held-by-another", 403)
    assert tables() == before
    assert first.post(f"/api/{address}", body, format="json").status_code == 200


def test_several_rows_are_refused_one_by_one(first: APIClient, second: APIClient, make_row: RowFactory):
    theirs, mine = make_row(priority=1).pk, make_row().pk
    claim(first, limit=1)
    claim(second, limit=1)
    rows = [{"queue_id": pk, "generation": 1} for pk in (theirs, mine)]
    for path in ("heartbeat/", "start/"):
        answers = post(second, path, {"run_id": "run", "rows": rows})["rows"]
        assert [row["code"] for row in answers] == [403, 200], path


def test_users_may_use_the_same_consumers_name(first: APIClient, second: APIClient, make_row: RowFactory):
    rows = [make_row(priority=-n).pk for n in range(3)]
    one = claim(first, limit=1, max_in_flight=1)
    other = claim(second, limit=1, max_in_flight=1)
    assert (ids(one), ids(other)) == (rows[:1], rows[1:2]), "another user's claim was delivered again"
    assert one["in_flight"] == other["in_flight"] == 1
    assert ids(claim(first)) == rows[:1]
    # With the claim's id, too, only its own user acknowledges it.
    claim(second, ack=one["claim_id"])
    assert ReportQueue.objects.get(pk=rows[0]).status == Status.CLAIMED
    claim(first, ack=one["claim_id"], max_in_flight=1)
    assert ReportQueue.objects.get(pk=rows[0]).status == Status.DISPATCHED


def test_a_firing_that_another_users_run_has_started_reveals_no_lease_token(first: APIClient, second: APIClient):
    schedule = build_fired_schedule()
    address = f"/api/schedules/{schedule.pk}/start-firing/"
    body = {"trigger_time": schedule.next_run_at.isoformat(), "run_id": "run"}
    token = first.post(address, body, format="json").json()["lease_token"]
    problem(second.post(address, body, format="json"), "held-by-another", 403)
    assert first.post(address, body, format="json").json()["lease_token"] == token


def test_the_last_run_of_another_user_is_not_executed_again(
    first: APIClient, second: APIClient, make_row: RowFactory, client_with: ClientFactory
):
    pk = make_row().pk
    claim(first)
    token = post(first, f"{pk}/start/", {"generation": 1, "run_id": "run"})["lease_token"]
    post(first, f"{pk}/complete/", {"lease_token": token})
    again = {"generation": 1, "run_id": "again", "parent_run_id": "run"}
    assert post(second, f"{pk}/start/", again, 403)["type"] == "held-by-another"
    # A run that is merely late is told what it would be told by its own user, and ends without work.
    assert post(second, f"{pk}/start/", {"generation": 1, "run_id": "late"}, 409)["type"] == "invalid-state"
    post(client_with("requeue_reportqueue"), f"{pk}/requeue/", {})
    assert ids(claim(second)) == [pk]
    post(second, f"{pk}/start/", {"generation": 2, "run_id": "again"})


@pytest.mark.parametrize("reached", ["claimed", "dispatched", "running"])
def test_rows_of_a_user_who_is_replaced_or_deleted_go_to_the_next_one_when_their_lease_ends(
    first: APIClient, second: APIClient, make_row: RowFactory, settings: Any, reached: str
):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0}
    pk = make_row().pk
    claimed = claim(first)
    if reached != "claimed":
        claim(first, ack=claimed["claim_id"])
    if reached == "running":
        post(first, f"{pk}/start/", {"generation": 1, "run_id": "run"})
    tokens.authenticate(first._credentials["HTTP_AUTHORIZATION"].split()[1]).user.delete()
    assert ids(claim(second)) == []
    expire()
    assert ids(claim(second)) == [pk]
    post(second, f"{pk}/start/", {"generation": 2, "run_id": "next"})


def test_a_new_token_of_the_same_user_goes_on(first: APIClient, make_row: RowFactory):
    pk = make_row().pk
    claimed = claim(first)
    old = ApiToken.objects.get()
    tokens.revoke([old.pk])
    first.credentials(HTTP_AUTHORIZATION=f"Token {tokens.issue(old.user, name='new').key}")
    assert claim(first)["claim_id"] == claimed["claim_id"]
    post(first, f"{pk}/start/", {"generation": 1, "run_id": "run"})


def test_code_of_the_project_and_rows_that_nobody_holds_are_not_bound(first: APIClient, make_row: RowFactory):
    by_code = make_row().pk
    queue.claim("sensor")
    post(first, f"{by_code}/start/", {"generation": 1, "run_id": "run"})
    by_user = make_row().pk
    assert ids(claim(first)) == [by_user]
    assert queue.start(by_user, generation=1, run_id="code").lease_token is not None
    given_back = make_row(generation=3).pk
    post(first, f"{given_back}/start/", {"generation": 2, "run_id": "late"})


# Idempotency keys.


def test_a_key_of_another_user_reveals_nothing_of_its_row(client_with: ClientFactory):
    shop, other = client_with("add_reportqueue"), client_with("add_reportqueue")
    made = post(shop, "", KEY, 201)
    ReportQueue.objects.filter(pk=made["queue_id"]).update(error="confidential")
    answer = post(other, "", KEY, 201)
    assert answer["queue_id"] != made["queue_id"]
    assert answer["error"] == ""
    post(other, "", {**KEY, "report_id": 5}, 409)
    # The user's own key is what it was, in one item and in a list.
    assert post(shop, "", KEY, 200)["queue_id"] == made["queue_id"]
    (again, new) = post(shop, "", [KEY, {**KEY, "idempotency_key": "order-8"}], 201)
    assert again["queue_id"] == made["queue_id"]
    assert new["queue_id"] not in (made["queue_id"], answer["queue_id"])


def test_no_user_can_use_up_a_key_of_the_projects_code(client_with: ClientFactory):
    other = client_with("add_reportqueue")
    taken = post(other, "", {**KEY, "report_id": 5}, 201)
    row = queue.enqueue(report_id=1, modifier_id=2, idempotency_key="order-7")
    assert row.pk != taken["queue_id"]
    assert queue.enqueue(report_id=1, modifier_id=2, idempotency_key="order-7").pk == row.pk
