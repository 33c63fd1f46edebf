"""Bulk actions over the API: what is answered, who may do what, and which filter was wrong."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from reportqueue import bulk
from reportqueue.models import BulkAction, ReportQueue
from reportqueue.states import Status
from tests.conftest import ClientFactory, build_row
from tests.integration.test_api_endpoints import post, problem
from tests.integration.test_bulk import FAILED, finish

pytestmark = pytest.mark.django_db
# fmt: off
ACTION = {
    "bulk_id", "verb", "filters", "reason", "requested_by", "status", "created_at", "started_at", "finished_at",
    "total", "more", "done", "asked", "refused", "problem", "undo_of", "idempotency_key", "waits_for_scheduler",
}
# fmt: on
REQUEUE = {"verb": "requeue", "filters": FAILED}


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportqueue", "requeue_reportqueue", "cancel_reportqueue")


def test_a_life_of_a_bulk_action(api: APIClient):
    rows = [build_row(status=Status.FAILED) for _ in range(2)]
    made = post(api, "bulk/", {**REQUEUE, "reason": "mended", "idempotency_key": "a"}, 202)
    pk = made["bulk_id"]
    assert set(made) == ACTION
    assert (made["status"], made["filters"], made["total"]) == ("waiting", {"status": ["failed"]}, 2)
    assert post(api, "bulk/", {**REQUEUE, "reason": "mended", "idempotency_key": "a"}, 202)["bulk_id"] == pk
    assert post(api, "bulk/", {**REQUEUE, "idempotency_key": "a"}, 409)["type"] == "idempotency-key-reused"
    assert post(api, f"bulk/{pk}/pause/", {})["status"] == "paused"
    assert post(api, f"bulk/{pk}/resume/", {})["status"] == "waiting"
    finish(BulkAction.objects.get())
    found = api.get(f"/api/report-queue/bulk/{pk}/").json()
    assert (found["status"], found["done"], found["refused"]) == ("finished", 2, {})
    assert found["finished_at"].endswith("Z")
    assert post(api, f"bulk/{pk}/stop/", {}, 409)["type"] == "bulk-action-refused"
    undo = post(api, f"bulk/{pk}/undo/", {"reason": "too early"}, 202)
    assert (undo["verb"], undo["undo_of"], undo["reason"]) == ("cancel", pk, "too early")
    assert post(api, f"bulk/{undo['bulk_id']}/stop/", {})["status"] == "cancelled"
    listed = api.get("/api/report-queue/bulk/", {"limit": 1}).json()
    assert [action["bulk_id"] for action in listed["bulk_actions"]] == [undo["bulk_id"]]
    assert [action["bulk_id"] for action in api.get(listed["next"]).json()["bulk_actions"]] == [pk]
    assert {row.status for row in ReportQueue.objects.filter(pk__in=[row.pk for row in rows])} == {Status.QUEUED}


def test_a_dry_run_counts_and_makes_nothing(api: APIClient):
    build_row(status=Status.FAILED)
    build_row(status=Status.CANCELLED)
    assert post(api, "bulk/", {"verb": "requeue", "filters": {"report_id": 1}, "dry_run": True}) == {
        "verb": "requeue",
        "filters": {"report_id": 1},
        "total": 2,
        "more": False,
        "counts": {"cancelled": 1, "failed": 1, "succeeded": 0},
    }
    assert not BulkAction.objects.exists()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"verb": "requeue", "filters": {"state": "failed"}}, "filters.state"),
        ({"verb": "requeue", "filters": {"status": "lost"}}, "filters.status"),
        ({"verb": "requeue", "filters": {"status": "running"}}, "filters.status"),
        ({"verb": "requeue", "filters": {"report_id": None}}, "filters.report_id"),
        ({"verb": "requeue", "filters": {"report_id": 1.5}}, "filters.report_id"),
        ({"verb": "requeue", "filters": [1]}, "filters"),
        ({"verb": "requeue", "filters": {}}, "all"),
        ({"verb": "requeue"}, "all"),
        ({**REQUEUE, "all": True}, "all"),
        ({"verb": "complete", "filters": FAILED}, "verb"),
        ({"filters": FAILED}, "verb"),
        ({**REQUEUE, "reason": "x" * 1_001}, "reason"),
        ({**REQUEUE, "idempotency_key": ""}, "idempotency_key"),
        ({**REQUEUE, "often": True}, "often"),
    ],
)
def test_what_is_wrong_is_named(api: APIClient, body: dict[str, Any], named: str):
    assert set(post(api, "bulk/", body, 400)["errors"]) == {named}
    assert not BulkAction.objects.exists()


def test_each_verb_and_order_needs_the_permission_of_what_it_does(client_with: ClientFactory):
    build_row(status=Status.FAILED)
    action = bulk.start("requeue", FAILED)
    viewer, canceller = client_with("view_reportqueue"), client_with("cancel_reportqueue")
    requeuer = client_with("requeue_reportqueue")
    for client in (viewer, canceller):
        for path, body in (("bulk/", REQUEUE), *((f"bulk/{action.pk}/{name}/", {}) for name in ("pause", "stop"))):
            assert post(client, path, body, 403)["type"] == "permission-denied"
    post(requeuer, "bulk/", {"verb": "cancel", "filters": {"status": "queued"}}, 403)
    problem(requeuer.get(f"/api/report-queue/bulk/{action.pk}/"), "permission-denied", 403)
    finish(action)
    detail = post(requeuer, f"bulk/{action.pk}/undo/", {}, 403)["detail"]
    assert "reportqueue.cancel_reportqueue" in detail
    assert BulkAction.objects.count() == 1
    assert post(canceller, f"bulk/{action.pk}/undo/", {}, 202)["verb"] == "cancel"


def test_an_action_that_is_not_there_is_404_for_those_who_may_act(api: APIClient, client_with: ClientFactory):
    problem(api.get("/api/report-queue/bulk/7/"), "not-found", 404)
    for name in ("pause", "resume", "stop", "undo"):
        post(api, f"bulk/7/{name}/", {}, 404)
        post(client_with("view_reportqueue"), f"bulk/7/{name}/", {}, 403)


def test_rows_can_be_listed_by_their_schedule(api: APIClient, make_schedule: Any):
    schedule = make_schedule()
    row = build_row(schedule=schedule)
    build_row()
    for query in ({"schedule": schedule.pk}, {"schedule": schedule.pk, "processed": "any"}):
        listed = api.get("/api/report-queue/", query).json()["queue"]
        assert [item["queue_id"] for item in listed] == [row.pk]
