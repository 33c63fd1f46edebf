"""The endpoints of the catalogue and of pauses, and what routes and uniqueness are over the API."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reportqueue import queue
from reportqueue.errors import ReportNotFound
from reportqueue.models import Report, ReportQueue
from tests.concurrency import at_once
from tests.conftest import ClientFactory, minutes_ago

pytestmark = pytest.mark.django_db
FIELDS = {
    "report_id": 7,
    "name": "Weather",
    "description": "Of a year.",
    "owner": "Weather desk",
    "params_schema": {"type": "object", "required": ["year"]},
    "default_params": {"year": 2014},
    "priority": 3,
    "max_attempts": 5,
    "lease_seconds": 60,
    "route": "finance",
    "max_running": 3,
    "max_running_per_modifier": 1,
    "rate_limit": 10,
    "rate_period_seconds": 60,
    "expires_after_seconds": 600,
    "deadline_seconds": 1200,
}


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    verbs = [f"{verb}_report" for verb in ("view", "add", "change", "delete")]
    return client_with(*verbs, *(f"{verb}_reportqueue" for verb in ("view", "add", "consume", "pause")))


def test_an_entry_is_added_read_changed_and_deleted(api: APIClient):
    made = api.post("/api/catalogue/", FIELDS, format="json")
    assert made.status_code == 201
    assert {name: made.json()[name] for name in FIELDS} == FIELDS
    assert set(made.json()) == {*FIELDS, "created_at", "updated_at"}
    assert api.get("/api/catalogue/7/").json() == made.json()
    changed = api.patch("/api/catalogue/7/", {"max_running": None}, format="json")
    assert changed.json()["max_running"] is None
    assert api.get("/api/catalogue/").json()["reports"][0]["report_id"] == 7
    assert api.delete("/api/catalogue/7/").status_code == 204
    assert api.get("/api/catalogue/7/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_two_clients_that_edit_different_fields_at_once_both_have_their_way(api: APIClient):
    Report(report_id=7, name="Weather").save()
    for number in range(1, 16):
        edits = [{"owner": f"Desk {number}"}, {"max_running": number}, {"description": f"Of {number}."}]
        answers = at_once([partial(api.patch, "/api/catalogue/7/", edit, format="json") for edit in edits])
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        entry = Report.objects.get()
        assert (entry.owner, entry.max_running, entry.description) == (f"Desk {number}", number, f"Of {number}.")


@pytest.mark.django_db(transaction=True)
def test_a_report_that_is_deleted_while_it_is_edited_stays_deleted(api: APIClient):
    for number in range(15):
        Report(report_id=7, name="Weather").save()
        edit = partial(api.patch, "/api/catalogue/7/", {"owner": f"Desk {number}"}, format="json")
        edited, deleted = at_once([edit, partial(api.delete, "/api/catalogue/7/")])
        assert deleted.status_code == 204
        assert edited.status_code in (200, 404)
        assert not Report.objects.exists()


def test_an_entry_that_was_deleted_since_it_was_read_cannot_be_saved():
    Report(report_id=7, name="Weather").save()
    entry = Report.objects.get()
    Report.objects.all().delete()
    with pytest.raises(ReportNotFound):
        entry.save()
    assert not Report.objects.exists()


def test_an_edit_writes_what_it_was_asked_for_alone(api: APIClient):
    Report(report_id=7, name="Weather", owner="Desk").save()
    with CaptureQueriesContext(connection) as queries:
        api.patch("/api/catalogue/7/", {"owner": "Finance"}, format="json")
    (update,) = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    assert set(re.findall(r'"(\w+)" = ', update)) - {"report_id"} == {"owner", "updated_at"}


def test_an_edit_may_name_the_version_that_it_changes(api: APIClient):
    address = "/api/catalogue/7/"
    tags = [api.post("/api/catalogue/", FIELDS, format="json")["ETag"]]
    assert api.get(address)["ETag"] == tags[0]
    assert api.get(address, headers={"If-None-Match": tags[0]}).status_code == 304

    def edit(owner: str, tag: str) -> Any:
        return api.patch(address, {"owner": owner}, format="json", headers={"If-Match": tag})

    edited = edit("Desk", tags[0])
    assert (edited.status_code, edited.json()["owner"]) == (200, "Desk")
    tags.append(edited["ETag"])
    assert api.get(address)["ETag"] == tags[1] != tags[0]
    refused = edit("Finance", tags[0])
    assert (refused.status_code, refused.json()["type"]) == (412, "precondition-failed")
    assert refused.json()["detail"].startswith("Report 7 is at version ")
    assert api.delete(address, headers={"If-Match": tags[0]}).status_code == 412
    assert edit("x", "x").status_code == 400
    assert Report.objects.get().owner == "Desk"
    Report.objects.update(owner="by SQL")
    assert edit("Finance", tags[1]).status_code == 412
    assert api.delete(address, headers={"If-Match": api.get(address)["ETag"]}).status_code == 204


def test_the_list_is_filtered_by_route_and_the_begin_of_the_name(api: APIClient):
    for number, name, route in ((1, "Weather", "a"), (2, "Stocks", "b"), (3, "Web visits", "b")):
        Report(report_id=number, name=name, route=route).save()

    def found(query: str) -> list[int]:
        return [one["report_id"] for one in api.get(f"/api/catalogue/?{query}").json()["reports"]]

    assert found("") == [1, 2, 3]
    assert found("route=b") == [2, 3]
    assert found("name=we") == [1, 3]
    assert found("limit=2") == [1, 2]


@pytest.mark.parametrize("name", ["Weather", "WEATHER"])
def test_a_name_that_is_taken_is_refused(api: APIClient, name: str):
    Report(report_id=1, name="Weather").save()
    refused = api.post("/api/catalogue/", {"report_id": 2, "name": name}, format="json")
    assert (refused.status_code, refused.json()["type"]) == (400, "validation")


def test_a_number_that_is_taken_is_refused(api: APIClient):
    Report(report_id=1, name="Weather").save()
    refused = api.post("/api/catalogue/", {"report_id": 1, "name": "Stocks"}, format="json")
    assert list(refused.json()["errors"]) == ["report_id"]
    assert Report.objects.get().name == "Weather"


def test_the_number_of_an_entry_never_changes(api: APIClient):
    Report(report_id=1, name="Weather").save()
    refused = api.patch("/api/catalogue/1/", {"report_id": 2}, format="json")
    assert list(refused.json()["errors"]) == ["report_id"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"rate_limit": 3}, "rate_period_seconds"), ({"rate_period_seconds": 3}, "rate_limit")],
)
def test_a_rate_without_a_period_is_refused(api: APIClient, fields: dict[str, Any], field: str):
    refused = api.post("/api/catalogue/", {"report_id": 1, "name": "x", **fields}, format="json")
    assert (refused.status_code, list(refused.json()["errors"])) == (400, [field])
    Report(report_id=2, name="y").save()
    refused = api.patch("/api/catalogue/2/", fields, format="json")
    assert (refused.status_code, list(refused.json()["errors"])) == (400, [field])


def test_parameters_that_do_not_fit_are_400_with_their_place(api: APIClient):
    Report(report_id=1, name="x", params_schema={"properties": {"rows": {"items": {"minimum": 1}}}}).save()
    refused = api.post("/api/report-queue/", {"report_id": 1, "modifier_id": 2, "params": {"rows": [0]}}, format="json")
    assert refused.status_code == 400
    assert refused.json()["errors"] == {"params": ["params.rows[0]: 0 is less than the minimum of 1."]}


def test_a_row_shows_its_route_and_the_name_of_its_report(api: APIClient):
    Report(report_id=1, name="Weather", route="finance").save()
    row = api.post("/api/report-queue/", {"report_id": 1, "modifier_id": 2}, format="json").json()
    assert (row["route"], row["report_name"], row["expires_at"]) == ("finance", "Weather", None)
    other = api.post("/api/report-queue/", {"report_id": 2, "modifier_id": 2, "route": "ops"}, format="json").json()
    assert (other["route"], other["report_name"]) == ("ops", "")
    for route, pk in (("finance", row["queue_id"]), ("ops", other["queue_id"])):
        listed = api.get(f"/api/report-queue/?route={route}").json()["queue"]
        assert [one["queue_id"] for one in listed] == [pk]


def test_a_report_that_is_unfinished_already_is_200(api: APIClient):
    asked = {"report_id": 1, "modifier_id": 2, "unique": "unfinished"}
    first = api.post("/api/report-queue/", asked, format="json")
    again = api.post("/api/report-queue/", asked, format="json")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["queue_id"] == again.json()["queue_id"]


def test_a_claim_gets_its_routes_only(api: APIClient):
    queue.enqueue(1, 2, route="finance")
    body = {"consumer": "sensor", "routes": ["ops"]}
    assert api.post("/api/report-queue/claim/", body, format="json").json()["queue"] == []
    body["routes"] = ["finance", "ops"]
    assert len(api.post("/api/report-queue/claim/", body, format="json").json()["queue"]) == 1


@pytest.mark.parametrize("routes", [["A"], ["ok", ""], [None], [["a"]], ["a\0"]])
def test_what_is_wrong_in_a_list_of_routes(api: APIClient, routes: list[Any]):
    refused = api.post("/api/report-queue/claim/", {"consumer": "sensor", "routes": routes}, format="json")
    assert refused.status_code == 400
    assert all(name.startswith("routes") for name in refused.json()["errors"])


def test_a_pause_is_made_seen_and_ended(api: APIClient):
    made = api.post("/api/report-queue/pause/", {"route": "finance", "note": "month end"}, format="json").json()
    assert (made["scope"], made["route"], made["report_id"], made["note"]) == ("route", "finance", None, "month end")
    assert made["paused_by"]
    assert api.get("/api/report-queue/pauses/").json() == {"pauses": [made]}
    assert api.post("/api/report-queue/resume/", {"route": "finance"}, format="json").json() == {"resumed": True}
    assert api.post("/api/report-queue/resume/", {"route": "finance"}, format="json").json() == {"resumed": False}


@pytest.mark.django_db(transaction=True)
def test_a_claim_waits_until_a_cap_lets_a_row_through(api: APIClient):
    Report(report_id=1, name="x", max_running=1).save()
    first, second = queue.enqueue(1, 2), queue.enqueue(1, 3)
    queue.claim("other")
    started = queue.start(first.pk, generation=1, run_id="run")

    def ends() -> None:
        time.sleep(1)
        assert started.lease_token is not None
        queue.complete(first.pk, lease_token=started.lease_token)

    def claims() -> Any:
        # No notification tells that the cap lets another row through.
        return api.post("/api/report-queue/claim/", {"consumer": "sensor", "wait_seconds": 6}, format="json").json()

    claim, _ = at_once([claims, ends])
    assert [row["queue_id"] for row in claim["queue"]] == [second.pk]


def test_a_pause_without_the_permission_is_403(client_with: ClientFactory):
    client = client_with("view_reportqueue", "consume_reportqueue", "cancel_reportqueue")
    refused = client.post("/api/report-queue/pause/", {}, format="json")
    assert refused.status_code == 403
    assert "reportqueue.pause_reportqueue" in refused.json()["detail"]
    assert not queue.paused()


def test_the_probes_tell_of_pauses_without_names(client: Any):
    queue.pause(by="ana", note="secret")
    ready, status = client.get("/readyz").json(), client.get("/status").json()
    assert ready["status"] == "ready"
    (told,) = ready["paused"]
    assert told.startswith("The queue is paused since ")
    assert told in status["warnings"]
    assert "ana" not in str((ready, status))
    assert "secret" not in str((ready, status))


def test_a_route_that_nobody_asks_for_is_told(client: Any, api: APIClient):
    queue.enqueue(1, 2, route="ops", trigger_time=minutes_ago(11))
    api.post("/api/report-queue/claim/", {"consumer": "sensor", "routes": ["finance"]}, format="json")
    answer = client.get("/status").json()
    assert answer["status"] == "moving"
    assert any(one.startswith("Reports of the route 'ops' have been due for 10 min") for one in answer["warnings"])
    api.post("/api/report-queue/claim/", {"consumer": "sensor", "routes": ["finance", "ops"]}, format="json")
    assert not ReportQueue.objects.filter(status="queued").exists()
    assert client.get("/status").json()["warnings"] == []
