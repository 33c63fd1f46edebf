"""The catalogue, the pauses and the page that queues a report, in the admin."""

from __future__ import annotations

import html
import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.test import Client

from reportqueue import queue
from reportqueue.models import Pause, Report, ReportQueue, ReportSchedule
from reportqueue.states import Source, Status
from tests.concurrency import at_once
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.integration.test_admin_permissions import messages_of, staff, text_of

pytestmark = pytest.mark.django_db
REPORTS, PAUSES = "/admin/reportqueue/report/", "/admin/reportqueue/pause/"
QUEUE, SCHEDULES = "/admin/reportqueue/reportqueue/", "/admin/reportqueue/reportschedule/"
ENQUEUE = f"{QUEUE}enqueue/"
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["day"],
    "properties": {
        "day": {"type": "string", "format": "date", "title": "Day"},
        "months": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "measure": {"enum": ["rain", "wind"]},
        "mean": {"type": "boolean"},
        "rows": {"type": "integer", "minimum": 1, "default": 10},
    },
}
NEW = {"report_id": "7", "name": "Weather", "route": "default", "default_params": "{}", "params_schema": ""}


@pytest.fixture
def keeper() -> Client:
    return staff(
        *(f"{verb}_report" for verb in ("view", "add", "change", "delete")),
        *(f"{verb}_reportqueue" for verb in ("view", "add", "pause")),
        *(f"{verb}_reportschedule" for verb in ("view", "add", "change")),
    )


@pytest.fixture
def weather() -> Report:
    report = Report(report_id=7, name="Weather", owner="Desk", params_schema=SCHEMA, description="Of a day.")
    report.save()
    return report


def errors_of(response: Any) -> dict[str, list[str]]:
    form = response.context["adminform"].form if "adminform" in response.context else response.context["form"]
    return dict(form.errors)


def test_an_entry_is_added_and_shown(keeper: Client):
    response = keeper.post(
        f"{REPORTS}add/", {**NEW, "max_running": "3", "rate_limit": "5", "rate_period_seconds": "60"}
    )
    assert response.status_code == 302, errors_of(response)
    assert "3 under way; 5 starts in 1 min (60 s)" in text_of(keeper.get(REPORTS))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_running": "0"}, "max_running"),
        ({"rate_limit": "5"}, "rate_period_seconds"),
        ({"route": "A b"}, "route"),
        ({"params_schema": '{"type": "no"}'}, "params_schema"),
        ({"params_schema": "["}, "params_schema"),
        ({"default_params": "[]"}, "default_params"),
        ({"name": ""}, "name"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(keeper: Client, fields: dict[str, str], field: str):
    assert list(errors_of(keeper.post(f"{REPORTS}add/", {**NEW, **fields}))) == [field]
    assert not Report.objects.exists()


def posted(page: Any) -> dict[str, str]:
    """What a browser posts if nothing is changed."""
    form = page.context["adminform"].form if "adminform" in page.context else page.context["form"]
    values = {field.html_name: field.value() for field in form}
    return {name: str(value) for name, value in values.items() if value is not None and value is not False}


def test_an_edit_of_a_version_that_has_changed_meanwhile_is_refused(keeper: Client, weather: Report):
    address = f"{REPORTS}7/change/"
    first, second = posted(keeper.get(address)), posted(keeper.get(address))
    assert keeper.post(address, {**first, "owner": "Finance"}).status_code == 302
    refused = keeper.post(address, {**second, "description": "Mine."})
    assert "The report has been changed since you opened this page" in str(errors_of(refused)["__all__"])
    weather.refresh_from_db()
    assert (weather.owner, weather.description) == ("Finance", "Of a day.")
    assert keeper.post(address, {**posted(keeper.get(address)), "description": "Mine."}).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_save_at_once_one_is_told(keeper: Client, weather: Report):
    address = f"{REPORTS}7/change/"
    opened = posted(keeper.get(address))
    other = Client()
    other.cookies = keeper.cookies
    edits = [(keeper, {**opened, "owner": "Finance"}), (other, {**opened, "description": "Mine."})]
    answers = at_once([partial(client.post, address, edit) for client, edit in edits])
    assert sorted(answer.status_code for answer in answers) == [200, 302]


def test_a_box_shows_its_json_in_lines_and_what_was_typed_after_an_error(keeper: Client, weather: Report):
    address = f"{REPORTS}7/change/"
    page = keeper.get(address)
    assert '{\n  "type": "object",' in json.dumps(SCHEMA, indent=2)
    shown = page.context["adminform"].form["params_schema"].value()
    assert json.loads(shown) == SCHEMA if isinstance(shown, str) else shown == SCHEMA
    assert html.escape(json.dumps(weather.params_schema["properties"]["mean"], indent=2).splitlines()[1]) in (
        page.content.decode()
    )
    typed = '{"type":   "objekt"}'
    refused = keeper.post(address, {**posted(page), "params_schema": typed})
    assert html.escape(typed) in refused.content.decode()


def test_a_list_is_no_schema(keeper: Client):
    for typed in ("[]", '""', "5", "true"):
        refused = keeper.post(f"{REPORTS}add/", {**NEW, "params_schema": typed})
        assert errors_of(refused) == {"params_schema": ["Must be a JSON object: a schema."]}
    assert keeper.post(f"{REPORTS}add/", {**NEW, "params_schema": "null"}).status_code == 302
    assert Report.objects.get().params_schema is None


def test_defaults_that_contradict_the_schema_are_refused_at_their_box(keeper: Client):
    fields = {"params_schema": json.dumps(SCHEMA), "default_params": '{"day": 5}'}
    refused = keeper.post(f"{REPORTS}add/", {**NEW, **fields})
    assert errors_of(refused) == {"default_params": ["default_params.day: 5 is not of type 'string'."]}


def test_a_name_that_is_taken_is_refused(keeper: Client, weather: Report):
    response = keeper.post(f"{REPORTS}add/", {**NEW, "report_id": "8", "name": "WEATHER"})
    assert "Another report has this name." in text_of(response)


def test_schedules_that_do_not_fit_a_new_schema_are_named(keeper: Client):
    schedule = build_schedule(report_id=7, params={"day": 5})
    response = keeper.post(
        f"{REPORTS}add/", {**NEW, "params_schema": '{"properties": {"day": {"type": "string"}}}'}, follow=True
    )
    assert any(f"do not fit the schema: #{schedule.pk}" in said for said in messages_of(response))


def test_a_report_is_paused_and_resumed_by_buttons(keeper: Client, weather: Report):
    response = keeper.post(f"{REPORTS}7/pause/", {"reason": "broken source"}, follow=True)
    (pause,) = queue.paused()
    assert (pause.report_id, pause.note) == (7, "broken source")
    assert any("Report Weather (7) is paused since" in said for said in messages_of(response))
    assert "Paused" in text_of(keeper.get(REPORTS))
    keeper.post(f"{REPORTS}7/resume/")
    assert not queue.paused()


def test_a_schedule_that_is_added_from_a_report_begins_with_its_priority_and_attempts(keeper: Client, weather: Report):
    Report.objects.filter(pk=7).update(priority=20, max_attempts=5)
    page = text_of(keeper.get(f"{SCHEDULES}add/?report_id=7"))
    assert 'name="priority" value="20"' in page
    assert 'name="max_attempts" value="5"' in page
    assert "This counts for the schedule's reports, not the priority of the catalogue." in page
    assert 'name="priority" value="0"' in text_of(keeper.get(f"{SCHEDULES}add/"))


def test_a_pause_without_the_permission_is_403(weather: Report):
    viewer = staff("view_report", "change_report", "view_reportqueue")
    assert viewer.post(f"{REPORTS}7/pause/").status_code == 403
    assert viewer.get(f"{PAUSES}add/").status_code == 403
    assert "Pause report" not in text_of(viewer.get(f"{REPORTS}7/change/"))
    assert not Pause.objects.exists()


def test_the_queue_is_paused_and_every_page_says_so(keeper: Client, weather: Report):
    assert keeper.post(f"{PAUSES}add/", {"scope": "queue", "note": "month end"}).status_code == 302
    build_row()
    for page in (REPORTS, PAUSES, QUEUE, SCHEDULES, f"{REPORTS}7/change/", f"{SCHEDULES}add/"):
        assert any("The queue is paused since" in said for said in messages_of(keeper.get(page))), page
    pause = Pause.objects.get()
    assert pause.paused_by
    keeper.post(f"{PAUSES}{pause.pk}/delete/", {"post": "yes"})
    assert not queue.paused()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scope": "route"}, "route"),
        ({"scope": "report"}, "report_id"),
        ({"scope": "queue", "route": "a"}, "route"),
        ({"scope": "report", "report_id": "x"}, "report_id"),
        ({"scope": "nothing"}, "scope"),
    ],
)
def test_a_pause_of_nothing_is_refused(keeper: Client, fields: dict[str, str], field: str):
    assert field in errors_of(keeper.post(f"{PAUSES}add/", fields))
    assert not Pause.objects.exists()


def test_lists_show_names_and_find_by_them(keeper: Client, weather: Report):
    row, other = build_row(report_id=7), build_row(report_id=8)
    build_schedule(report_id=7, params={"day": "2026-12-01"})
    listed = text_of(keeper.get(QUEUE))
    assert "Weather" in listed
    found = keeper.get(f"{QUEUE}?q=report:weath").context["cl"].result_list
    assert [one.pk for one in found] == [row.pk]
    assert "Weather" in text_of(keeper.get(SCHEDULES))
    assert len(keeper.get(f"{SCHEDULES}?q=weather").context["cl"].result_list) == 1
    assert "Weather" in text_of(keeper.get(f"{QUEUE}{row.pk}/change/"))
    assert other.pk


def test_a_schedule_asks_for_parameters_with_inputs(keeper: Client, weather: Report):
    page = keeper.get(f"{SCHEDULES}add/?report_id=7")
    names = list(page.context["adminform"].form.fields)
    assert {name for name in names if name.startswith("params__")} == {
        f"params__{name}" for name in SCHEMA["properties"]
    }
    assert "params" not in names
    posted = {
        "report_id": "7",
        "modifier_id": "2",
        "cron": "0 8 * * *",
        "timezone": "UTC",
        "enabled": "on",
        "blackout": "skip",
        "catch_up": "all",
        "catch_up_window_seconds": "3600",
        "catch_up_limit": "5",
        "overlap": "allow",
        "jitter_seconds": "0",
        "priority": "0",
        "max_attempts": "3",
        "params_of": "7",
        "params__day": "2026-12-01",
        "params__months": "6, 8",
        "params__measure": '"wind"',
        "params__mean": "false",
    }
    response = keeper.post(f"{SCHEDULES}add/", posted)
    assert response.status_code == 302, errors_of(response)
    schedule = ReportSchedule.objects.get()
    assert schedule.params == {"day": "2026-12-01", "months": [6, 8], "measure": "wind", "mean": False}
    shown = keeper.get(f"{SCHEDULES}{schedule.pk}/change/").context["adminform"].form
    assert shown["params__months"].value() == "6, 8" or shown["params__months"].value() == [6, 8]
    assert shown["params__measure"].value() == '"wind"'
    for wrong in ({"params__day": ""}, {"params__months": "0"}, {"params__months": "x"}, {"params__mean": "maybe"}):
        assert errors_of(keeper.post(f"{SCHEDULES}add/", {**posted, **wrong})).keys() == wrong.keys()


def test_a_schedule_of_a_report_without_a_schema_has_a_box(keeper: Client):
    form = keeper.get(f"{SCHEDULES}add/?report_id=8").context["adminform"].form
    assert "params" in form.fields


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "object"}}},
        {"properties": {"a": {"anyOf": [{"type": "string"}]}}},
        {"properties": {f"p{number}": {"type": "string"} for number in range(31)}},
        {"allOf": [{"required": ["a"]}], "properties": {"a": {"type": "string"}}},
        {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}},
    ],
)
def test_a_schema_that_is_too_rich_has_a_box(keeper: Client, schema: dict[str, Any]):
    Report(report_id=8, name="x", params_schema=schema).save()
    assert "params" in keeper.get(f"{SCHEDULES}add/?report_id=8").context["adminform"].form.fields
    assert "params" in keeper.get(f"{ENQUEUE}?report_id=8").context["form"].fields


def test_a_report_is_queued_by_hand_for_later(keeper: Client, weather: Report):
    page = keeper.get(f"{ENQUEUE}?report_id=7")
    assert "Weather" in text_of(page)
    posted = {"params_of": "7", "report_id": "7", "modifier_id": "2", "params__day": "2026-12-01"}
    response = keeper.post(ENQUEUE, {**posted, "trigger_time": "2027-01-01T08:00:00"}, follow=True)
    row = ReportQueue.objects.get()
    assert (row.params, row.source) == ({"day": "2026-12-01"}, Source.ADMIN)
    assert row.trigger_time.isoformat() == "2027-01-01T08:00:00+00:00"
    assert any("Queued: report Weather (7), modifier 2" in said for said in messages_of(response))


def test_what_does_not_fit_is_refused_at_its_input(keeper: Client, weather: Report):
    posted = {"params_of": "7", "report_id": "7", "modifier_id": "2", "params__day": "x", "params__rows": "0"}
    assert set(errors_of(keeper.post(ENQUEUE, posted))) == {"params__day", "params__rows"}
    response = keeper.post(ENQUEUE, {"report_id": "7", "modifier_id": "2", "params": '{"day": 5}'})
    assert errors_of(response) == {"params": ["params.day: 5 is not of type 'string'."]}
    assert not ReportQueue.objects.exists()


def test_a_row_is_copied_with_other_parameters(keeper: Client, weather: Report):
    row = build_row(report_id=7, modifier_id=3, params={"day": "2026-12-01"}, priority=4)
    assert f"{ENQUEUE}?copy_of={row.pk}" in keeper.get(f"{QUEUE}{row.pk}/change/").content.decode()
    form = keeper.get(f"{ENQUEUE}?copy_of={row.pk}").context["form"]
    assert (form["report_id"].value(), form["modifier_id"].value(), form["priority"].value()) == (7, 3, 4)
    assert form["params__day"].value() == "2026-12-01"


def test_a_schedule_is_run_with_other_parameters(keeper: Client):
    schedule = build_schedule(report_id=8, modifier_id=3, params={"day": "x"})
    assert f"{ENQUEUE}?schedule={schedule.pk}" in keeper.get(f"{SCHEDULES}{schedule.pk}/change/").content.decode()
    assert keeper.get(f"{ENQUEUE}?schedule={schedule.pk}").context["form"].initial["params"] == {"day": "x"}


def test_of_a_report_that_is_unfinished_nothing_is_added(keeper: Client):
    posted = {"report_id": "8", "modifier_id": "2", "params": "{}", "unique": "on"}
    keeper.post(ENQUEUE, posted)
    response = keeper.post(ENQUEUE, posted, follow=True)
    assert ReportQueue.objects.count() == 1
    assert any("Nothing was added" in said for said in messages_of(response))


def test_without_the_permission_there_is_no_such_page():
    viewer = staff("view_reportqueue")
    assert viewer.get(ENQUEUE).status_code == 403
    assert ENQUEUE not in viewer.get(QUEUE).content.decode()


@pytest.mark.parametrize(
    "query", ["report_id=x", "copy_of=99999999999999999999999", "schedule=-1", "copy_of=1&schedule=2"]
)
def test_an_address_that_names_nothing_shows_an_empty_form(keeper: Client, query: str):
    assert keeper.get(f"{ENQUEUE}?{query}").context["form"].initial == {}


def test_the_lists_of_the_queue_offer_to_queue_a_report_once_and_find_the_rows_of_a_route(keeper: Client):
    rows = [build_row(route=route) for route in ("default", "finance", "finance")]
    page = keeper.get(QUEUE)
    assert page.content.decode().count(f'href="{ENQUEUE}"') == 1
    found = keeper.get(QUEUE, {"q": "route:finance"}).context["cl"].result_list
    assert {row.pk for row in found} == {row.pk for row in rows[1:]}


def test_a_row_that_has_missed_the_deadline_of_its_report_says_by_how_much(keeper: Client, weather: Report):
    due = minutes_ago(60)
    by = due + timedelta(minutes=30)
    waiting = build_row(report_id=7, trigger_time=due, deadline_at=by)
    for minutes in (29, 31):
        ended = due + timedelta(minutes=minutes)
        build_row(report_id=7, trigger_time=due, deadline_at=by, status=Status.SUCCEEDED, finished_at=ended)
    build_row(report_id=8, trigger_time=due)
    page = text_of(keeper.get(QUEUE))
    assert page.count("deadline missed by") == 2
    assert "deadline missed by 1 min" in page
    assert "deadline missed by 30 min" in text_of(keeper.get(f"{QUEUE}{waiting.pk}/change/"))
