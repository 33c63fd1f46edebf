"""What a run, and whoever stops or repeats it, is answered: also the second time, and when it is too late."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from reportqueue.states import Status
from tests.conftest import ClientFactory, RowFactory, minutes_ago
from tests.integration.test_api_endpoints import post, tables


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with(*(f"{verb}_reportqueue" for verb in ("view", "add", "consume", "cancel", "requeue")))


def test_a_repeated_start_gets_the_same_token(api: APIClient, make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED)
    body = {"generation": 1, "run_id": "run", "lease_seconds": 600}
    first = post(api, f"{row.pk}/start/", body)
    again = post(api, f"{row.pk}/start/", body)
    assert (again["lease_token"], again["attempt"]) == (first["lease_token"], 1)
    assert parse_datetime(again["lease_expires_at"]) > minutes_ago(-9)
    refused = post(api, f"{row.pk}/start/", body | {"run_id": "another"}, 409)
    assert (refused["type"], refused["current_status"]) == ("invalid-state", "running")


def test_a_persons_re_execution_starts_a_finished_row_again(api: APIClient, make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    body = {"generation": 1, "run_id": "again"}
    assert post(api, f"{row.pk}/start/", body, 409)["current_status"] == "failed"
    assert post(api, f"{row.pk}/start/", body | {"parent_run_id": "other"}, 409)["type"] == "invalid-state"
    assert post(api, f"{row.pk}/start/", body | {"parent_run_id": row.run_id})["status"] == "running"


def test_a_heartbeat_renews_the_lease_and_carries_the_wish_to_cancel(api: APIClient, make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    body = {"lease_token": str(row.lease_token), "lease_seconds": 3600}
    beat = post(api, f"{row.pk}/heartbeat/", body)
    assert parse_datetime(beat["lease_expires_at"]) > minutes_ago(-59)
    assert beat["cancel_requested"] is False
    asked = post(api, f"{row.pk}/cancel/", {"reason": "wrong"})
    assert (asked["status"], asked["cancel_requested"]) == ("running", True)
    assert post(api, f"{row.pk}/heartbeat/", body)["cancel_requested"] is True
    mine = {"lease_token": str(row.lease_token)}
    done = post(api, f"{row.pk}/cancel/", mine)
    assert (done["status"], done["processed"], done["error"]) == ("cancelled", True, "wrong")
    assert post(api, f"{row.pk}/cancel/", mine) == done
    assert post(api, f"{row.pk}/cancel/", {}) == done


def test_a_run_that_waits_to_start_keeps_its_row(api: APIClient, make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED, generation=2)
    body = {"generation": 2, "run_id": "run", "lease_seconds": 3600}
    beat = post(api, f"{row.pk}/heartbeat/", body)
    assert parse_datetime(beat["lease_expires_at"]) > minutes_ago(-59)
    assert beat["cancel_requested"] is False
    assert post(api, f"{row.pk}/heartbeat/", body | {"generation": 1}, 409)["type"] == "stale-lease"
    running = make_row(status=Status.RUNNING)
    refused = post(api, f"{running.pk}/heartbeat/", body | {"generation": 1}, 409)
    assert (refused["type"], refused["current_status"]) == ("invalid-state", "running")


@pytest.mark.parametrize(
    ("verb", "more", "after"),
    [
        ("complete", {"result": {"pages": 3}}, "succeeded"),
        ("complete", {"result": None}, "succeeded"),
        ("fail", {"error": "no"}, "queued"),
        ("fail", {"error": "", "retryable": False}, "failed"),
        ("release", {"delay_seconds": 60, "reason": "moving"}, "queued"),
        ("cancel", {"reason": "stopped"}, "cancelled"),
    ],
)
def test_a_run_may_repeat_how_it_ended(
    api: APIClient, make_row: RowFactory, verb: str, more: dict[str, Any], after: str
):
    row = make_row(status=Status.RUNNING)
    body = {"lease_token": str(row.lease_token), **more}
    done = post(api, f"{row.pk}/{verb}/", body)
    assert (done["status"], done["lease_expires_at"]) == (after, None)
    before = tables()
    assert post(api, f"{row.pk}/{verb}/", body) == done
    for other in {"complete", "fail", "release", "cancel"} - {verb}:
        refused = post(
            api,
            f"{row.pk}/{other}/",
            {"lease_token": body["lease_token"], **({"error": "x"} if other == "fail" else {})},
            409,
        )
        assert (refused["type"], refused["current_status"]) == ("stale-lease", after)
    assert tables() == before


@pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail", "release", "cancel"])
def test_a_stale_token_is_409_and_changes_nothing(api: APIClient, make_row: RowFactory, verb: str):
    body = {"lease_token": str(uuid4()), **({"error": "x"} if verb == "fail" else {})}
    for status in Status:
        row = make_row(status=status)
        before = tables()
        refused = post(api, f"{row.pk}/{verb}/", body, 409)
        assert (refused["type"], refused["current_status"]) == ("stale-lease", status.value)
        assert tables() == before


def test_a_failed_run_says_when_it_may_be_tried_again(api: APIClient, make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    body = {"lease_token": str(row.lease_token), "error": "no", "retry_after_seconds": 7200}
    assert parse_datetime(post(api, f"{row.pk}/fail/", body)["available_at"]) > minutes_ago(-119)


def test_a_run_that_never_started_gives_its_row_back(api: APIClient, make_row: RowFactory):
    row = make_row(status=Status.DISPATCHED)
    body = {"generation": 1, "run_id": "run", "error": "no image"}
    done = post(api, f"{row.pk}/fail/", body)
    assert (done["status"], done["attempt"]) == ("queued", 0)
    assert "no image" in done["error"]
    assert post(api, f"{row.pk}/fail/", body) == done
    assert post(api, f"{row.pk}/fail/", body | {"generation": 2}, 409)["current_status"] == "queued"


def test_a_consumer_gives_back_a_row_of_its_claim(api: APIClient, make_row: RowFactory):
    row = make_row()
    claim = post(api, "claim/", {"consumer": "sensor"})
    refused = post(api, f"{row.pk}/release/", {"claim_id": str(uuid4())}, 409)
    assert (refused["type"], refused["current_status"]) == ("stale-lease", "claimed")
    back = post(api, f"{row.pk}/release/", {"claim_id": claim["claim_id"], "delay_seconds": 600, "reason": "full"})
    assert (back["status"], back["attempt"], back["error"], back["claimed_by"]) == ("queued", 0, "full", "")
    assert parse_datetime(back["available_at"]) > minutes_ago(-9)


@pytest.mark.parametrize(
    ("verb", "status", "body"),
    [
        ("start", Status.QUEUED, {"generation": 1, "run_id": "r"}),
        ("start", Status.SKIPPED, {"generation": 1, "run_id": "r"}),
        ("fail", Status.RUNNING, {"generation": 1, "run_id": "r", "error": "x"}),
        ("fail", Status.SUCCEEDED, {"generation": 1, "run_id": "r", "error": "x"}),
        ("release", Status.RUNNING, {"claim_id": str(uuid4())}),
        ("release", Status.QUEUED, {"claim_id": str(uuid4())}),
        *(("cancel", status, {}) for status in (Status.SUCCEEDED, Status.FAILED, Status.SKIPPED)),
        *(
            ("requeue", status, {})
            for status in (Status.QUEUED, Status.CLAIMED, Status.DISPATCHED, Status.RUNNING, Status.SKIPPED)
        ),
    ],
)
def test_what_the_status_does_not_allow_is_409_with_the_status(
    api: APIClient, make_row: RowFactory, verb: str, status: Status, body: dict[str, Any]
):
    row = make_row(status=status)
    before = tables()
    refused = post(api, f"{row.pk}/{verb}/", body, 409)
    assert (refused["type"], refused["current_status"]) == ("invalid-state", status.value)
    assert tables() == before


def test_requeue_counts_attempts_afresh(api: APIClient, make_row: RowFactory):
    row = make_row(status=Status.FAILED, attempt=3)
    again = post(api, f"{row.pk}/requeue/", {"reason": "fixed"})
    assert (again["status"], again["attempt"], again["processed"], again["finished_at"]) == ("queued", 0, False, None)


def test_a_call_that_needs_no_body_may_come_without_one(api: APIClient, make_row: RowFactory):
    row = make_row()
    assert api.post(f"/api/report-queue/{row.pk}/cancel/").json()["status"] == "cancelled"
    assert api.post(f"/api/report-queue/{row.pk}/requeue/").json()["status"] == "queued"
