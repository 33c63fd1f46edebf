"""Who sees what in the admin, and who may do what: with real users, permissions and requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportQueue, ReportSchedule
from reportqueue.states import Status
from tests.conftest import RowFactory

ScheduleFactory = Callable[..., ReportSchedule]
QUEUE = "/admin/reportqueue/reportqueue/"
SCHEDULES = "/admin/reportqueue/reportschedule/"
CALENDARS = "/admin/reportqueue/blackoutcalendar/"


def staff(*codenames: str) -> Client:
    """The browser of a staff member who has just these permissions of reportqueue."""
    user = User.objects.create_user(f"user-{uuid4()}", is_staff=True)
    found = Permission.objects.filter(content_type__app_label="reportqueue", codename__in=codenames)
    assert found.count() == len(codenames), f"no such permission among {codenames}"
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def new_calendar(
    name: str = "Holidays", *, weekdays: Iterable[int] = (), days: Iterable[tuple[date, date]] = ()
) -> BlackoutCalendar:
    """A calendar that is closed on these weekdays (0 is Monday) and from the first to the last of each pair of days."""
    calendar = BlackoutCalendar.objects.create(name=name)
    for weekday in weekdays:
        BlackoutHours.objects.create(calendar=calendar, weekday=weekday, label="weekly")
    for first, last in days:
        BlackoutDays.objects.create(calendar=calendar, first_day=first, last_day=last, label="feast")
    return calendar


def text_of(response: Any) -> str:
    """The page, its entities as characters."""
    assert response.status_code == 200, response
    return str(response.content.decode()).replace("&#x27;", "'").replace("&quot;", '"').replace("&amp;", "&")


def messages_of(response: Any) -> list[str]:
    """What the page tells its reader at the top."""
    return [str(message) for message in response.context["messages"]]


def act(client: Client, action: str, rows: list[Any], url: str = QUEUE, **more: Any) -> Any:
    """Post an action for the rows, as the list's form does; the page that follows."""
    data = {"action": action, "index": 0, "_selected_action": [row.pk for row in rows], **more}
    return client.post(url, data, follow=True)


def queries_of(client: Client, url: str) -> list[str]:
    """The statements of one request."""
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return [query["sql"] for query in queries.captured_queries]


def test_the_admin_sends_strangers_to_the_login(db: None):
    response = Client().get(QUEUE)
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("url", [QUEUE, SCHEDULES])
def test_staff_without_permission_see_nothing(make_row: RowFactory, make_schedule: ScheduleFactory, url: str):
    row, schedule = make_row(), make_schedule()
    client = staff()
    assert client.get(url).status_code == 403
    assert client.get(f"{QUEUE}{row.pk}/change/").status_code == 403
    assert client.get(f"{SCHEDULES}{schedule.pk}/change/").status_code == 403


@pytest.mark.parametrize("verb", ["add/", "1/change/", "1/delete/"])
def test_nobody_writes_queue_rows_by_hand(admin_client: Client, make_row: RowFactory, verb: str):
    row = make_row()
    address = QUEUE + verb.replace("1", str(row.pk))
    assert admin_client.post(address, {"status": "succeeded", "post": "yes"}).status_code == 403
    assert ReportQueue.objects.get().status == Status.QUEUED


def test_nobody_is_offered_to_add_or_delete_queue_rows(admin_client: Client, make_row: RowFactory):
    row = make_row()
    listed, page = text_of(admin_client.get(QUEUE)), text_of(admin_client.get(f"{QUEUE}{row.pk}/change/"))
    assert f"{QUEUE}add/" not in listed
    assert "delete_selected" not in listed
    assert 'name="_save"' not in page
    assert "/delete/" not in page


def test_a_viewer_has_no_actions_and_no_buttons(make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    client = staff("view_reportqueue")
    assert 'name="action"' not in text_of(client.get(QUEUE))
    page = text_of(client.get(f"{QUEUE}{row.pk}/change/"))
    assert "/requeue/" not in page
    assert "/cancel/" not in page


@pytest.mark.parametrize(
    ("permission", "status", "action", "after"),
    [
        ("requeue_reportqueue", Status.FAILED, "requeue_selected", Status.QUEUED),
        ("cancel_reportqueue", Status.QUEUED, "cancel_selected", Status.CANCELLED),
    ],
)
def test_each_action_needs_its_own_permission(
    make_row: RowFactory, permission: str, status: Status, action: str, after: Status
):
    row = make_row(status=status)
    other = ({"requeue_reportqueue", "cancel_reportqueue"} - {permission}).pop()
    for lacking in (staff("view_reportqueue"), staff("view_reportqueue", other)):
        assert f'value="{action}"' not in text_of(lacking.get(QUEUE))
        act(lacking, action, [row])
        act(lacking, action, [row], confirmed=str(row.pk))
        assert lacking.post(f"{QUEUE}{row.pk}/{action.partition('_')[0]}/").status_code == 403
        row.refresh_from_db()
        assert row.status == status
    assert not LogEntry.objects.exists()
    able = staff("view_reportqueue", permission)
    assert f'value="{action}"' in text_of(able.get(QUEUE))
    act(able, action, [row])
    row.refresh_from_db()
    assert row.status == after


@pytest.mark.parametrize("verb", ["requeue", "cancel"])
def test_the_permission_to_act_is_none_to_see(make_row: RowFactory, verb: str):
    row = make_row(status=Status.FAILED if verb == "requeue" else Status.QUEUED)
    client = staff(f"{verb}_reportqueue")
    assert client.get(QUEUE).status_code == 403
    assert client.post(f"{QUEUE}{row.pk}/{verb}/").status_code == 403
    before = row.status
    row.refresh_from_db()
    assert row.status == before


def test_an_operation_is_not_done_by_following_a_link(make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    assert staff("view_reportqueue", "requeue_reportqueue").get(f"{QUEUE}{row.pk}/requeue/").status_code == 405
    row.refresh_from_db()
    assert row.status == Status.FAILED


def test_an_operation_needs_the_form_s_token(make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    client = staff("view_reportqueue", "requeue_reportqueue")
    client.handler.enforce_csrf_checks = True
    assert client.post(f"{QUEUE}{row.pk}/requeue/").status_code == 403


def test_a_viewer_of_schedules_may_read_and_nothing_else(make_schedule: ScheduleFactory):
    schedule = make_schedule(params={"measure": "precipitation"})
    client = staff("view_reportschedule")
    listed, page = text_of(client.get(SCHEDULES)), text_of(client.get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert 'name="action"' not in listed
    assert f"{SCHEDULES}add/" not in listed
    assert 'name="_save"' not in page
    assert "precipitation" in page
    assert client.post(f"{SCHEDULES}{schedule.pk}/change/", {"enabled": ""}).status_code == 403
    assert client.post(f"{SCHEDULES}{schedule.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{SCHEDULES}add/").status_code == 403
    for action in ("resume_selected", "pause_selected", "run_selected", "delete_selected"):
        act(client, action, [schedule], SCHEDULES)
    schedule.refresh_from_db()
    assert schedule.enabled
    assert not ReportQueue.objects.exists()


def test_switching_schedules_needs_the_permission_to_change_and_queueing_the_one_to_add(
    make_schedule: ScheduleFactory,
):
    schedule = make_schedule()
    changer = staff("view_reportschedule", "change_reportschedule")
    assert 'value="run_selected"' not in text_of(changer.get(SCHEDULES))
    act(changer, "run_selected", [schedule], SCHEDULES)
    assert not ReportQueue.objects.exists()
    adder = staff("view_reportschedule", "add_reportqueue")
    assert 'value="pause_selected"' not in text_of(adder.get(SCHEDULES))
    act(adder, "pause_selected", [schedule], SCHEDULES)
    schedule.refresh_from_db()
    assert schedule.enabled


def test_outcomes_are_hidden_from_who_may_not_see_the_queue(make_row: RowFactory, make_schedule: ScheduleFactory):
    schedule = make_schedule()
    make_row(schedule=schedule)
    for url in (SCHEDULES, f"{SCHEDULES}{schedule.pk}/change/"):
        assert f"{QUEUE}?schedule={schedule.pk}" not in text_of(staff("view_reportschedule").get(url))
        assert f"{QUEUE}?schedule={schedule.pk}" in text_of(staff("view_reportschedule", "view_reportqueue").get(url))
