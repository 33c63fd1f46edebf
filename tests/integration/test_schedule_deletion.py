"""A schedule with a long history is deleted in bounded transactions and calls; its rows stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reportqueue import erasure
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.models import schedule as schedules_module
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import ClientFactory, build_row, build_schedule, minutes_ago
from tests.integration.test_admin_permissions import SCHEDULES, messages_of, staff
from tests.integration.test_long_history import history, rows_read

__all__ = ["history"]
pytestmark = pytest.mark.django_db
WAYS: dict[str, Callable[[ReportSchedule], Any]] = {
    "one": lambda schedule: schedule.delete(),
    "several": lambda schedule: ReportSchedule.objects.filter(pk=schedule.pk).delete(),
}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules_module, "DETACHED_AT_ONCE", 3)


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has time for one batch."""
    for module in ("reportqueue.api.views.schedules", "reportqueue.admin.schedule_deletion"):
        monkeypatch.setattr(f"{module}.DETACH_SECONDS", -1)


def with_rows(finished: int, **fields: Any) -> ReportSchedule:
    schedule = build_schedule(**fields)
    for number in range(finished):
        build_row(schedule=schedule, status=Status.SUCCEEDED, trigger_time=minutes_ago(60 * number + 60))
    build_row(schedule=schedule, trigger_time=minutes_ago(1))
    build_row(schedule=schedule, status=Status.RUNNING, trigger_time=minutes_ago(2))
    return schedule


def left(schedule: ReportSchedule) -> int:
    return ReportQueue.objects.filter(schedule=schedule.pk).count()


@pytest.mark.parametrize("way", WAYS)
def test_finished_rows_are_detached_in_batches_before(way: str):
    schedule, other = with_rows(8), with_rows(2)
    with CaptureQueriesContext(connection) as ran:
        WAYS[way](schedule)
    updates = [one["sql"] for one in ran if one["sql"].startswith('UPDATE "reportqueue_reportqueue"')]
    assert len(updates) == 4, "three batches, and the unfinished rows"
    assert all('"id" IN (' in statement for statement in updates[:3])
    assert not ReportSchedule.objects.filter(pk=schedule.pk).exists()
    assert (ReportQueue.objects.filter(schedule=None).count(), left(other)) == (10, 4)


@pytest.mark.django_db(transaction=True)
def test_each_batch_is_committed_and_a_row_that_another_holds_stops_none(monkeypatch: pytest.MonkeyPatch):
    schedule = with_rows(7)
    first = ReportQueue.objects.filter(schedule=schedule.pk).earliest("trigger_time")
    with transaction.atomic():
        ReportQueue.objects.select_for_update().get(pk=first.pk)
        (done,) = at_once([lambda: ReportSchedule.objects.filter(pk=schedule.pk).detach_history()])
    assert done is True
    assert left(schedule) == 3, "the one that was held, and the unfinished ones"
    (done,) = at_once([lambda: ReportSchedule.objects.filter(pk=schedule.pk).detach_history(seconds=-1)])
    assert done is True
    assert left(schedule) == 2


@pytest.mark.django_db(transaction=True)
def test_what_was_detached_stays_detached_if_the_deletion_dies(monkeypatch: pytest.MonkeyPatch):
    schedule = with_rows(7)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ReportSchedule, "lock_turn", dies)
    with pytest.raises(KeyboardInterrupt):
        schedule.delete()
    assert left(schedule) == 2


def test_a_long_history_is_read_by_its_index(history: ReportSchedule):
    schedule = history
    read = rows_read(lambda: ReportSchedule.objects.filter(pk=schedule.pk).detach_history(seconds=-1))
    assert read < 100, "one batch of three"


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("delete_reportschedule")


@pytest.mark.usefixtures("no_time")
def test_a_call_of_the_api_detaches_for_a_time_and_its_repeat_goes_on(api: APIClient):
    schedule = with_rows(7)
    address = f"/api/schedules/{schedule.pk}/"
    for _ in range(2):
        answer = api.delete(address)
        assert (answer.status_code, answer.json()["type"]) == (503, "history-left")
        assert answer["Retry-After"] == "1"
    assert left(schedule) == 3
    assert api.delete(address).status_code == 204
    assert api.delete(address).status_code == 404
    assert ReportQueue.objects.filter(schedule=None).count() == 9


def test_a_call_that_is_refused_detaches_nothing(api: APIClient, client_with: ClientFactory):
    schedule = with_rows(4)
    address = f"/api/schedules/{schedule.pk}/"
    assert api.delete(address, headers={"If-Match": '"7"'}).status_code == 412
    assert client_with("view_reportschedule").delete(address).status_code == 403
    assert left(schedule) == 6


def posted(browser: Client, way: str, schedule: ReportSchedule) -> Any:
    if way == "page":
        return browser.post(f"{SCHEDULES}{schedule.pk}/delete/", {"post": "yes"}, follow=True)
    chosen = {"action": "delete_selected", "_selected_action": [str(schedule.pk)], "post": "yes"}
    if way == "all":
        chosen |= {"select_across": "1"}
    return browser.post(SCHEDULES, chosen, follow=True)


@pytest.mark.usefixtures("no_time")
@pytest.mark.parametrize("way", ["page", "selected", "all"])
def test_the_admin_detaches_for_a_time_and_asks_again(way: str):
    browser = staff("view_reportschedule", "delete_reportschedule")
    schedule = with_rows(5)
    assert "delete it again" in str(messages_of(posted(browser, way, schedule)))
    assert (left(schedule), LogEntry.objects.count()) == (4, 0)
    posted(browser, way, schedule)
    assert not ReportSchedule.objects.exists()
    assert LogEntry.objects.count() == 1
    assert ReportQueue.objects.filter(schedule=None).count() == 7


@pytest.mark.parametrize("way", ["page", "selected"])
def test_whoever_may_not_delete_detaches_nothing(way: str):
    schedule = with_rows(4)
    posted(staff("view_reportschedule", "change_reportschedule"), way, schedule)
    assert left(schedule) == 6


def test_the_question_whether_to_delete_detaches_nothing():
    browser = staff("view_reportschedule", "delete_reportschedule")
    schedule = with_rows(4)
    browser.get(f"{SCHEDULES}{schedule.pk}/delete/")
    browser.post(SCHEDULES, {"action": "delete_selected", "_selected_action": [str(schedule.pk)]})
    assert left(schedule) == 6


def test_the_erasure_of_a_modifier_detaches_in_batches(monkeypatch: pytest.MonkeyPatch):
    schedule = with_rows(0, modifier_id=17, enabled=False)
    ReportQueue.objects.all().delete()
    for number in range(4):  # of before the schedule was given to this modifier
        build_row(schedule=schedule, status=Status.FAILED, modifier_id=18, trigger_time=minutes_ago(number + 1))
    with CaptureQueriesContext(connection) as ran:
        erasure.erase_modifier(17, not_deleted=lambda *_: None)
    updates = [one["sql"] for one in ran if 'SET "schedule_id" = NULL' in one["sql"]]
    assert len(updates) == 3
    assert ReportQueue.objects.filter(schedule=None, modifier_id=18).count() == 4
