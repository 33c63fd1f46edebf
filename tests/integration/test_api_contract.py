"""The shape of every answer: its field names and its times, whatever the project around it has set."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient
from rest_framework.versioning import AcceptHeaderVersioning
from rest_framework.views import APIView

from reportqueue.states import Status
from tests.conftest import ClientFactory, build_row, minutes_ago
from tests.integration.test_api_endpoints import build_schedule, post

# fmt: off
ITEM = {
    "queue_id", "report_id", "report_name", "modifier_id", "trigger_time", "processed", "status", "source",
    "route", "priority", "params", "idempotency_key", "schedule_id", "generation", "attempt", "max_attempts",
    "launch_failures", "unstarted_runs", "releases", "alone", "waiting", "run_key", "run_id",
    "available_at", "expires_at", "deadline_at", "created_at",
    "claimed_by", "claimed_at", "dispatched_at",
    "started_at", "finished_at", "lease_expires_at", "cancel_requested", "error", "failure", "result", "traceparent",
    "erased_at",
}
ATTEMPT = {
    "attempt", "generation", "run_id", "parent_run_id", "worker", "started_at", "finished_at",
    "outcome", "progress", "error",
}
# fmt: on
TIMES = {name for name in ITEM if name.endswith("_at")} | {"trigger_time"}
REPORT = {"report_id": 1, "modifier_id": 2}


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with(*(f"{verb}_reportqueue" for verb in ("view", "add", "consume", "cancel", "requeue")))


@pytest.fixture
def in_paris_with_odd_drf_settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.TIME_ZONE = "Europe/Paris"
    settings.REST_FRAMEWORK = {
        "DATETIME_FORMAT": "%d.%m.%Y",
        "DATETIME_INPUT_FORMATS": ["%d.%m.%Y"],
        "COERCE_BIGINT_TO_STRING": True,
        "NON_FIELD_ERRORS_KEY": "__all__",
    }
    # These are read when DRF is imported.
    monkeypatch.setattr(APIView, "versioning_class", AcceptHeaderVersioning)
    monkeypatch.setattr(AcceptHeaderVersioning, "allowed_versions", ["2"])


def life(api: APIClient) -> dict[str, Any]:
    """One report from end to end: each call's answer."""

    answers = {"enqueue": post(api, "", {**REPORT, "params": {"ä": [1.5, None]}, "idempotency_key": "k"}, 201)}
    pk = answers["enqueue"]["queue_id"]
    answers["claim"] = post(api, "claim/", {"consumer": "sensor"})
    answers["start"] = post(api, f"{pk}/start/", {"generation": 1, "run_id": "a", "worker": "host:7"})
    owned = {"lease_token": answers["start"]["lease_token"]}
    answers["heartbeat"] = post(api, f"{pk}/heartbeat/", {**owned, "progress": "half"})
    answers["release"] = post(api, f"{pk}/release/", owned)
    owned = {"lease_token": post(api, f"{pk}/start/", {"generation": 1, "run_id": "b"})["lease_token"]}
    answers["fail"] = post(api, f"{pk}/fail/", {**owned, "error": "no", "retry_after_seconds": 0})
    owned = {"lease_token": post(api, f"{pk}/start/", {"generation": 1, "run_id": "c"})["lease_token"]}
    answers["complete"] = post(api, f"{pk}/complete/", {**owned, "result": {"pages": 3}})
    answers["requeue"] = post(api, f"{pk}/requeue/", {"reason": "again"})
    answers["cancel"] = post(api, f"{pk}/cancel/", {"reason": "never mind"})
    answers["item"] = api.get(f"/api/report-queue/{pk}/").json()
    answers["list"] = api.get("/api/report-queue/", {"processed": "any"}).json()
    return answers


def test_each_answer_has_exactly_the_fields_of_the_contract(api: APIClient):
    answers = life(api)
    for name in ("enqueue", "release", "fail", "complete", "requeue", "cancel"):
        assert set(answers[name]) == ITEM, name
    assert set(answers["start"]) == ITEM | {"lease_token"}
    assert set(answers["heartbeat"]) == {"lease_expires_at", "cancel_requested"}
    assert set(answers["item"]) == ITEM | {"attempts", "waiting_reasons"}
    assert set(answers["claim"]) == {"claim_id", "queue"}
    assert set(answers["list"]) == {"queue", "next", "previous"}
    for name in ("claim", "list"):
        assert [set(item) for item in answers[name]["queue"]] == [ITEM]
    assert [set(attempt) for attempt in answers["item"]["attempts"]] == [ATTEMPT] * 3


def test_the_lease_token_appears_in_the_answer_to_start_alone(api: APIClient):
    answers = life(api)
    token = answers.pop("start")["lease_token"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", token)
    assert "lease_token" not in str(answers)
    assert token not in str(answers)
    running = build_row(status=Status.RUNNING)
    for path in ("report-queue/", f"report-queue/{running.pk}/"):
        assert str(running.lease_token) not in api.get(f"/api/{path}").content.decode()


def test_an_item_says_what_happened_to_it(api: APIClient):
    answers = life(api)
    new = answers["enqueue"]
    assert new == new | REPORT | {
        "status": "queued",
        "processed": False,
        "source": "api",
        "priority": 0,
        "params": {"ä": [1.5, None]},
        "idempotency_key": "k",
        "schedule_id": None,
        "generation": 0,
        "attempt": 0,
        "max_attempts": 3,
        "run_key": None,
        "run_id": "",
        "cancel_requested": False,
        "error": "",
        "failure": "",
        "result": None,
        **dict.fromkeys(TIMES - {"trigger_time", "available_at", "created_at"}),
    }
    (claimed,) = answers["claim"]["queue"]
    assert (claimed["status"], claimed["run_key"]) == ("claimed", f"{new['queue_id']}:1")
    assert (answers["start"]["status"], answers["start"]["attempt"]) == ("running", 1)
    assert (answers["release"]["status"], answers["release"]["attempt"]) == ("queued", 0)
    assert (answers["fail"]["status"], answers["fail"]["attempt"], answers["fail"]["error"]) == ("queued", 1, "no")
    done = answers["complete"]
    assert (done["status"], done["processed"], done["result"]) == ("succeeded", True, {"pages": 3})
    assert (answers["requeue"]["status"], answers["requeue"]["attempt"]) == ("queued", 0)
    assert (answers["cancel"]["status"], answers["cancel"]["error"]) == ("cancelled", "never mind")
    attempts = [
        [attempt[name] for name in ("run_id", "worker", "outcome", "progress")]
        for attempt in answers["item"]["attempts"]
    ]
    assert attempts == [["a", "host:7", "released", "half"], ["b", "", "failed", ""], ["c", "", "succeeded", ""]]


def times(value: Any) -> list[str]:
    """Every time in an answer."""
    if isinstance(value, list):
        return [time for part in value for time in times(part)]
    if not isinstance(value, dict):
        return []
    own = [text for name, text in value.items() if name in TIMES | {"next_run_at"} and text is not None]
    return own + [time for part in value.values() for time in times(part)]


def check_times(api: APIClient) -> None:
    answers = life(api)
    for name, answer in answers.items():
        assert times(answer), name
        for time in times(answer):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", time), (name, time)
            assert parse_datetime(time) > minutes_ago(2)
    local = post(api, "", {**REPORT, "trigger_time": "2026-11-23T09:00:00+01:00"}, 201)
    assert (local["trigger_time"], local["available_at"]) == ("2026-11-23T08:00:00Z",) * 2


def test_times_are_utc_with_a_z(api: APIClient):
    check_times(api)


@pytest.mark.usefixtures("in_paris_with_odd_drf_settings")
def test_the_projects_own_settings_do_not_change_the_contract(api: APIClient):
    check_times(api)
    largest = {"report_id": 2**63 - 1, "modifier_id": 0}
    assert post(api, "", largest, 201)["report_id"] == 2**63 - 1
    assert post(api, "claim/", [], 400)["errors"].keys() == {""}


def test_a_schedules_times_are_utc_with_a_z(client_with: ClientFactory, settings: Any):
    settings.TIME_ZONE = "Europe/Paris"
    settings.REST_FRAMEWORK = {"DATETIME_FORMAT": "%d.%m.%Y"}
    schedule = build_schedule()
    answer = client_with("view_reportschedule").get(f"/api/schedules/{schedule.pk}/").json()
    assert answer["next_run_at"] == f"{schedule.next_run_at:%Y}-01-01T00:00:00Z"
