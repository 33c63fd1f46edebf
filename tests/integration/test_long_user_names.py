"""A project's user model may allow longer names than Django's own: whatever such a user does is done."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from reportqueue import triggers
from reportqueue.bounds import MAX_USER_LENGTH
from reportqueue.models import ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import ClientFactory, RowFactory
from tests.integration.test_admin_permissions import QUEUE, SCHEDULES, ScheduleFactory, act, staff
from tests.integration.test_admin_schedule_form import FORM

NAME = "ä" * 400
STORED = NAME[:MAX_USER_LENGTH]


@pytest.fixture(autouse=True)
def _long_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(User, "get_username", lambda user: NAME)


@pytest.fixture
def editor(db: None) -> Client:
    """The browser of somebody who keeps the schedules."""
    return staff("view_reportschedule", "add_reportschedule", "change_reportschedule")


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    """A program that keeps them."""
    return client_with("view_reportschedule", "add_reportschedule", "change_reportschedule")


def paused_by() -> str:
    """Who has paused the only schedule."""
    schedule = ReportSchedule.objects.get()
    assert not schedule.enabled
    return schedule.paused_by


def test_unticking_enabled_in_the_form(editor: Client, make_schedule: ScheduleFactory):
    off = {name: value for name, value in FORM.items() if name != "enabled"}
    assert editor.post(f"{SCHEDULES}{make_schedule().pk}/change/", off).status_code == 302
    assert paused_by() == STORED


def test_adding_a_schedule_that_is_not_enabled(editor: Client):
    off = {name: value for name, value in FORM.items() if name != "enabled"}
    assert editor.post(f"{SCHEDULES}add/", off).status_code == 302
    assert paused_by() == STORED


def test_pausing_in_the_list(editor: Client, make_schedule: ScheduleFactory):
    assert act(editor, "pause_selected", [make_schedule()], SCHEDULES).status_code == 200
    assert paused_by() == STORED


@pytest.mark.parametrize(
    ("method", "path", "body"), [("patch", "", {"enabled": False}), ("post", "pause/", {"note": "n" * 1_000})]
)
def test_pausing_by_the_api(
    api: APIClient, make_schedule: ScheduleFactory, method: str, path: str, body: dict[str, Any]
):
    answer = getattr(api, method)(f"/api/schedules/{make_schedule().pk}/{path}", body, format="json")
    assert (answer.status_code, answer.json()["paused_by"]) == (200, STORED)
    assert paused_by() == STORED


def test_adding_a_schedule_by_the_api_that_is_not_enabled(api: APIClient):
    body = {"report_id": 1, "modifier_id": 2, "cron": "@daily", "enabled": False}
    assert api.post("/api/schedules/", body, format="json").status_code == 201
    assert paused_by() == STORED


@pytest.mark.parametrize(("action", "status"), [("cancel", Status.QUEUED), ("requeue", Status.FAILED)])
def test_cancelling_and_requeueing_with_a_long_reason(make_row: RowFactory, action: str, status: Status):
    row = make_row(status=status)
    operator = staff("view_reportqueue", f"{action}_reportqueue")
    assert act(operator, f"{action}_selected", [row], QUEUE, reason="ö" * 1_000).status_code == 200
    row.refresh_from_db()
    assert row.status != status
    assert NAME in row.error


def test_switching_the_pattern(db: None):
    triggers.hand_over(Pattern.CRON, by=NAME)
    assert TriggerPeriod.objects.get(pattern=Pattern.CRON).switched_by == STORED
