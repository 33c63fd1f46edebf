"""Entity tags: nobody overwrites an edit that he has not seen, if he says which version he knows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from rest_framework.test import APIClient

from reportqueue import schedules
from reportqueue.models import ReportSchedule
from tests.concurrency import at_once, wait_for_a_blocked_connection
from tests.conftest import ClientFactory, minutes_ago
from tests.integration.test_api_endpoints import SCHEDULE, build_schedule, problem, tables

ADDRESS = "/api/schedules/"
ScheduleFactory = Callable[..., ReportSchedule]
Write = Callable[..., HttpResponse]


def patch(api: APIClient, pk: int, **headers: str) -> HttpResponse:
    return api.patch(f"{ADDRESS}{pk}/", {"priority": 5}, format="json", headers=headers)


def delete(api: APIClient, pk: int, **headers: str) -> HttpResponse:
    return api.delete(f"{ADDRESS}{pk}/", headers=headers)


def pause(api: APIClient, pk: int, **headers: str) -> HttpResponse:
    return api.post(f"{ADDRESS}{pk}/pause/", {}, format="json", headers=headers)


def resume(api: APIClient, pk: int, **headers: str) -> HttpResponse:
    return api.post(f"{ADDRESS}{pk}/resume/", {}, format="json", headers=headers)


each_write = pytest.mark.parametrize("write", [patch, delete, pause, resume])


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with(*(f"{verb}_reportschedule" for verb in ("view", "add", "change", "delete")))


def test_every_answer_with_one_schedule_has_its_version_as_its_tag(api: APIClient):
    made = api.post(ADDRESS, SCHEDULE, format="json")
    pk = made.json()["schedule_id"]
    answers = [made, api.get(f"{ADDRESS}{pk}/"), patch(api, pk), pause(api, pk), resume(api, pk)]
    assert [answer["ETag"] for answer in answers] == ['"1"', '"1"', '"2"', '"3"', '"4"']
    assert [answer.json()["version"] for answer in answers] == [1, 1, 2, 3, 4]


@each_write
@pytest.mark.parametrize("header", ['"2"', "*", " * ", '"1", "2"', '"x","2"', 'W/"2"'])
def test_a_write_whose_if_match_names_the_version_is_done(
    api: APIClient, make_schedule: ScheduleFactory, write: Write, header: str
):
    schedule = make_schedule()
    schedule.save()
    assert write(api, schedule.pk, **{"If-Match": header}).status_code in (200, 204)


@each_write
def test_a_write_without_if_match_is_done(api: APIClient, make_schedule: ScheduleFactory, write: Write):
    assert write(api, make_schedule().pk).status_code in (200, 204)


@each_write
@pytest.mark.parametrize("header", ['"1"', '"3"', '"02"', '""', '"*"', '"1", "3"', 'W/"1"', '"2 "'])
def test_a_write_whose_if_match_names_another_version_is_412_and_changes_nothing(
    api: APIClient, make_schedule: ScheduleFactory, write: Write, header: str
):
    schedule = make_schedule(enabled=write is not resume)
    schedule.save()
    before = tables()
    detail = problem(write(api, schedule.pk, **{"If-Match": header}), "precondition-failed", 412)["detail"]
    assert "at version 2" in detail
    assert "Read it again" in detail
    assert tables() == before


@each_write
@pytest.mark.parametrize("header", ["", "2", "x", '"2', "'2'", "**", "W/2"])
def test_an_if_match_that_cannot_be_read_is_400_naming_it(
    api: APIClient, make_schedule: ScheduleFactory, write: Write, header: str
):
    schedule = make_schedule(enabled=write is not resume)
    schedule.save()
    before = tables()
    assert list(problem(write(api, schedule.pk, **{"If-Match": header}), "validation", 400)["errors"]) == ["If-Match"]
    assert tables() == before


@each_write
def test_an_if_match_for_a_schedule_that_is_gone_is_404(api: APIClient, make_schedule: ScheduleFactory, write: Write):
    gone = make_schedule()
    pk = gone.pk
    gone.delete()
    problem(write(api, pk, **{"If-Match": '"1"'}), "not-found", 404)


def test_the_scheduler_does_not_change_the_version_and_an_update_does(api: APIClient, make_schedule: ScheduleFactory):
    schedule = make_schedule(cron="* * * * *")
    due = ReportSchedule.objects.filter(pk=schedule.pk)
    due.update(next_run_at=minutes_ago(0))
    before = api.get(f"{ADDRESS}{schedule.pk}/")
    assert schedules.enqueue_due().enqueued == 1
    after = api.get(f"{ADDRESS}{schedule.pk}/")
    assert after.json()["next_run_at"] > before.json()["next_run_at"]
    assert after["ETag"] == before["ETag"] == '"1"'
    due.update(priority=9)
    assert api.get(f"{ADDRESS}{schedule.pk}/")["ETag"] == '"2"'


@pytest.mark.parametrize("header", ['"1"', 'W/"1"', "*", '"x", "1"'])
def test_a_version_that_the_caller_has_is_304(api: APIClient, make_schedule: ScheduleFactory, header: str):
    response = api.get(f"{ADDRESS}{make_schedule().pk}/", headers={"If-None-Match": header})
    assert (response.status_code, response.content, response["ETag"]) == (304, b"", '"1"')


@pytest.mark.parametrize("header", ['"2"', "1", "x", ""])
def test_a_version_that_the_caller_does_not_have_is_answered_in_full(
    api: APIClient, make_schedule: ScheduleFactory, header: str
):
    response = api.get(f"{ADDRESS}{make_schedule().pk}/", headers={"If-None-Match": header})
    assert (response.status_code, response.json()["version"]) == (200, 1)


def root() -> APIClient:
    client = APIClient()
    client.force_authenticate(User.objects.get_or_create(username="root", is_superuser=True)[0])
    return client


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", [patch, delete, pause])
def test_of_writes_at_once_that_name_one_version_one_is_done(write: Write):
    schedule, client = build_schedule(), root()
    answers: list[Any] = at_once([lambda: write(client, schedule.pk, **{"If-Match": '"1"'})] * 4)
    codes = sorted(answer.status_code for answer in answers)
    assert codes == ([204, 404, 404, 404] if write is delete else [200, 412, 412, 412])


@pytest.mark.django_db(transaction=True)
@each_write
def test_a_write_waits_for_an_edit_under_way_and_is_412_then(write: Write):
    schedule, client = build_schedule(), root()
    edited = threading.Event()

    def edit() -> None:
        with transaction.atomic():
            mine = ReportSchedule.objects.select_for_update().get()
            mine.priority = 9
            mine.save()
            edited.set()
            wait_for_a_blocked_connection()

    def overwrite() -> HttpResponse:
        assert edited.wait(20)
        return write(client, schedule.pk, **{"If-Match": '"1"'})

    done, answer = at_once([edit, overwrite])
    assert done is None, done
    problem(answer, "precondition-failed", 412)
    schedule.refresh_from_db()
    assert (schedule.priority, schedule.version) == (9, 2)
