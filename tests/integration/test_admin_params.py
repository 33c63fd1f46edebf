"""The inputs for parameters in the admin: what nobody edits stays as it is, and no schema is a server error."""

from __future__ import annotations

import json
import math
import re
from datetime import date
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from reportqueue import bounds, params_schema
from reportqueue.models import Report, ReportQueue, ReportSchedule
from tests.conftest import build_row, build_schedule
from tests.integration.test_admin_catalogue import ENQUEUE, QUEUE, SCHEDULES, errors_of, keeper
from tests.integration.test_admin_permissions import messages_of, text_of
from tests.unit.test_params_schema import schemas

__all__ = ["keeper"]
pytestmark = pytest.mark.django_db
database_is_shared = settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # each example is several pages: to shrink one takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def form_of(page: Any) -> Any:
    return page.context["adminform"].form if "adminform" in page.context else page.context["form"]


def as_sent(field: Any) -> str:
    """What a browser sends of a form's field that nobody touches."""
    value = field.value()
    value = value() if callable(value) else value
    text = "" if value is None or value is False else str(value)
    kind = getattr(field.field.widget, "input_type", "textarea")
    if kind == "textarea":
        return re.sub(r"\r?\n", "\r\n", text)
    if kind in ("text", "number", "date", "hidden"):
        text = text if kind == "hidden" else re.sub(r"[\r\n]", "", text)
    if kind == "number" and not re.fullmatch(r"-?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return ""
    if kind == "date":
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            return ""
    return text


def posted(page: Any) -> dict[str, str]:
    """What a browser posts of a page that nobody touches."""
    sent = {field.html_name: as_sent(field) for field in form_of(page)}
    if "params_of" in page.context:
        sent["params_of"] = str(page.context["params_of"])
    return {name: text for name, text in sent.items() if text}


def scheduled(params: dict[str, Any]) -> ReportSchedule:
    """A schedule with these parameters, whether they fit or not, and a report with inputs for them."""
    Report.objects.all().delete()
    ReportSchedule.objects.all().delete()
    schedule = build_schedule(report_id=7, params=params)
    Report(report_id=7, name="Weather", params_schema=SIMPLE).save()
    schedule.refresh_from_db()
    return schedule


PROPERTIES = {
    "text": {"type": "string"},
    "day": {"type": "string", "format": "date"},
    "count": {"type": "integer"},
    "share": {"type": "number"},
    "yes": {"type": "boolean"},
    "one": {"enum": ["a", "b, c", 1, 1.5, True, "é\n"]},
    "texts": {"type": "array", "items": {"type": "string"}},
    "counts": {"type": "array", "items": {"type": "integer"}},
    "shares": {"type": "array", "items": {"type": "number"}},
}
SIMPLE = {"type": "object", "properties": PROPERTIES, "required": ["text"]}
texts = st.text(st.sampled_from("ab ,é\"'<&\n\r\t01.-\u2028"), max_size=6) | st.sampled_from(
    ["", "2026-12-01", "20261201"]
)
numbers = (
    st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([3.0, -0.0, 1e16, 1e300, 0.1, 2**53 + 1, 10**400])
)
anything = st.none() | st.booleans() | numbers | texts | st.lists(texts | numbers, max_size=3) | st.just({"a": 1})
FITTING = {
    "text": texts,
    "day": st.dates().map(date.isoformat) | texts,
    "count": numbers,
    "share": numbers,
    "yes": st.booleans(),
    "one": st.sampled_from([*PROPERTIES["one"]["enum"], 1.0, "c"]),
    "texts": st.lists(texts, max_size=3),
    "counts": st.lists(numbers, max_size=3),
    "shares": st.lists(numbers, max_size=3),
}
params_of_any_kind = st.fixed_dictionaries({}, optional={name: one | anything for name, one in FITTING.items()})
params_that_fit_mostly = st.fixed_dictionaries({}, optional=FITTING)


@database_is_shared
@given(params_of_any_kind | params_that_fit_mostly)
def test_a_schedule_that_is_opened_and_saved_keeps_its_parameters(keeper: Client, params: dict[str, Any]):
    schedule = scheduled(params)
    address = f"{SCHEDULES}{schedule.pk}/change/"
    answer = keeper.post(address, posted(keeper.get(address)))
    assert answer.status_code == 302, errors_of(answer)
    before = json.dumps(schedule.params, sort_keys=True)
    schedule.refresh_from_db()
    assert json.dumps(schedule.params, sort_keys=True) == before


@database_is_shared
@given(params_that_fit_mostly)
def test_a_row_that_is_copied_keeps_its_parameters(keeper: Client, params: dict[str, Any]):
    Report.objects.all().delete()
    ReportQueue.objects.all().delete()
    Report(report_id=7, name="Weather", params_schema={"properties": PROPERTIES}).save()
    assume(not params_schema.problems({"properties": PROPERTIES}, params))
    row = build_row(report_id=7, params=params)
    row.refresh_from_db()
    address = f"{ENQUEUE}?copy_of={row.pk}"
    answer = keeper.post(address, posted(keeper.get(address)))
    assert answer.status_code == 302, errors_of(answer)
    copy = ReportQueue.objects.exclude(pk=row.pk).get()
    assert json.dumps(copy.params, sort_keys=True) == json.dumps(row.params, sort_keys=True)


@pytest.mark.parametrize(
    ("params", "has_inputs"),
    [
        ({"text": "a", "count": 3, "share": 0.5, "yes": False, "one": "b, c", "texts": ["a", "b"]}, True),
        ({"text": "", "texts": []}, True),
        ({"count": 10**40, "counts": [10**40, 1]}, True),
        ({"share": 3}, True),
        ({"share": 3.0}, True),
        ({"text": "a\nb"}, False),
        ({"text": None}, False),
        ({"texts": ["a,b"]}, False),
        ({"texts": ["a", ""]}, False),
        ({"texts": [" a"]}, False),
        ({"texts": [""]}, False),
        ({"day": "tomorrow"}, False),
        ({"one": "c"}, False),
        ({"one": 1.0}, False),
        ({"count": "3"}, False),
        ({"yes": 1}, False),
        ({"other": 1}, False),
    ],
)
def test_parameters_that_inputs_cannot_show_have_a_box(keeper: Client, params: dict[str, Any], has_inputs: bool):
    schedule = scheduled(params)
    fields = form_of(keeper.get(f"{SCHEDULES}{schedule.pk}/change/")).fields
    assert ("params__text" in fields, "params" in fields) == (has_inputs, not has_inputs)


def test_what_is_edited_is_changed_and_nothing_else(keeper: Client):
    Report(report_id=7, name="Weather", params_schema={"properties": PROPERTIES}).save()
    params = {"text": "", "count": 10**40, "share": 3.0, "texts": [], "day": "2026-12-01", "yes": True}
    schedule = build_schedule(report_id=7, params=params)
    address = f"{SCHEDULES}{schedule.pk}/change/"
    edits = {"params__count": "7", "params__day": "", "params__texts": "a, b", "params__shares": "1, 2.50"}
    assert keeper.post(address, {**posted(keeper.get(address)), **edits}).status_code == 302
    schedule.refresh_from_db()
    edited = {"count": 7, "texts": ["a", "b"], "shares": [1, 2.5]}
    assert schedule.params == {name: one for name, one in {**params, **edited}.items() if name != "day"}
    assert [type(schedule.params[name]) for name in ("count", "share")] == [int, float]
    for name, wrong in (("count", "x"), ("count", "1.5"), ("shares", "1;2"), ("share", "1e999"), ("one", "null")):
        refused = keeper.post(address, {**posted(keeper.get(address)), f"params__{name}": wrong})
        assert list(errors_of(refused)) == [f"params__{name}"]


def test_a_schedule_that_no_longer_fits_can_be_paused_in_its_form(keeper: Client):
    schedule = scheduled({"count": 1})
    address = f"{SCHEDULES}{schedule.pk}/change/"
    sent = posted(keeper.get(address))
    del sent["enabled"]
    assert keeper.post(address, sent).status_code == 302
    schedule.refresh_from_db()
    assert not schedule.enabled
    assert list(errors_of(keeper.post(address, {**posted(keeper.get(address)), "params__count": "2"}))) == [
        "params__text"
    ]


any_schema = st.dictionaries(st.text(max_size=3) | st.sampled_from(["a", "b"]), schemas, max_size=4).map(
    lambda properties: {"properties": properties, "$defs": {"a": True, "b": {"type": "integer"}}}
)
nearly_simple = st.dictionaries(
    st.text(max_size=3),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "array", ["string", "null"], ["array"]])},
        optional={
            "items": st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", ["number"], "object"])}),
            "enum": st.lists(anything, max_size=3),
            "minimum": numbers.filter(lambda number: not isinstance(number, float) or math.isfinite(number)),
            "minLength": st.sampled_from([0, 1, 2.0]),
            "default": anything,
            "title": texts,
            "description": texts,
            "format": st.sampled_from(["date", "email"]),
            "pattern": st.sampled_from(["^a", ""]),
        },
    ),
    min_size=1,
    max_size=3,
).map(lambda properties: {"properties": properties})


@database_is_shared
@given(any_schema | nearly_simple, anything)
def test_no_schema_is_a_server_error(keeper: Client, schema: dict[str, Any], value: Any):
    Report.objects.all().delete()
    ReportSchedule.objects.all().delete()
    try:
        bounds.validate_json_object(params := dict.fromkeys(schema["properties"], value))
        schedule = build_schedule(report_id=7, params=params)
        Report(report_id=7, name="Weather", params_schema=schema).save()
    except ValidationError:
        assume(False)
    schedule.refresh_from_db()
    before = json.dumps(schedule.params, sort_keys=True)
    for address in (f"{SCHEDULES}{schedule.pk}/change/", f"{ENQUEUE}?schedule={schedule.pk}", f"{ENQUEUE}?report_id=7"):
        page = keeper.get(address)
        assert page.status_code == 200
        assert keeper.post(address, posted(page)).status_code in (200, 302)
    schedule.refresh_from_db()
    assert json.dumps(schedule.params, sort_keys=True) == before


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": ["string", "null"]}},
        {"a": {"type": "array", "items": {"type": ["string", "null"]}}},
        {"a": {"type": "array", "items": {}}},
        {"a": {"type": "array"}},
        {"a": {"enum": [None]}},
        {"a": {"enum": [["a"]]}},
        {"a": {"enum": []}},
        {"a": {}},
        {"a": True},
        {"a\nb": {"type": "string"}},
    ],
)
def test_what_is_not_simple_has_a_box(keeper: Client, properties: dict[str, Any]):
    Report(report_id=7, name="Weather", params_schema={"properties": properties}).save()
    for address in (f"{SCHEDULES}add/?report_id=7", f"{ENQUEUE}?report_id=7"):
        assert "params" in form_of(keeper.get(address)).fields


def test_a_required_parameter_without_a_property_has_a_box(keeper: Client):
    schema = {"properties": {"a": {"type": "string"}}, "required": ["b"]}
    Report(report_id=7, name="Weather", params_schema=schema).save()
    assert "params" in form_of(keeper.get(f"{ENQUEUE}?report_id=7")).fields


# Another report is chosen in a form that has the inputs of one.


@pytest.fixture
def two_reports() -> None:
    Report(report_id=7, name="Weather", params_schema={"properties": {"day": {"type": "string"}}}).save()
    Report(report_id=8, name="Stocks", params_schema={"properties": {"year": {"type": "integer"}}}).save()
    Report(report_id=9, name="Free").save()


@pytest.mark.parametrize(("other", "inputs"), [("8", {"params__year"}), ("9", {"params"}), ("5", {"params"})])
def test_another_report_is_not_queued_with_the_inputs_of_the_first(
    keeper: Client, two_reports: None, other: str, inputs: set[str]
):
    row = build_row(report_id=7, params={"day": "x"})
    for address in (f"{ENQUEUE}?report_id=7", f"{ENQUEUE}?copy_of={row.pk}"):
        sent = {**posted(keeper.get(address)), "modifier_id": "3", "priority": "5", "params__day": "x"}
        page = keeper.post(address, {**sent, "report_id": other})
        assert page.status_code == 200
        assert any("You have chosen another report." in said for said in messages_of(page))
        assert {name for name in form_of(page).fields if name.startswith("params")} == inputs
        again = posted(page)
        assert (again["report_id"], again["modifier_id"], again["priority"]) == (other, "3", "5")
        assert ReportQueue.objects.count() == 1
        given = {"params__year": "2026"} if "params__year" in inputs else {"params": '{"year": 2026}'}
        assert keeper.post(address, {**again, **given}).status_code == 302
        queued = ReportQueue.objects.exclude(pk=row.pk).get()
        assert (queued.report_id, queued.params) == (int(other), {"year": 2026})
        queued.delete()


@pytest.mark.parametrize(("other", "inputs"), [("8", {"params__year"}), ("9", {"params"})])
def test_a_schedule_does_not_take_the_inputs_of_another_report(
    keeper: Client, two_reports: None, other: str, inputs: set[str]
):
    schedule = build_schedule(report_id=7, params={"day": "x"})
    address = f"{SCHEDULES}{schedule.pk}/change/"
    page = keeper.post(address, {**posted(keeper.get(address)), "report_id": other})
    assert "You have chosen another report." in str(errors_of(page)["report_id"])
    assert {name for name in form_of(page).fields if name.startswith("params__") or name == "params"} == inputs
    given = {"params__year": "2026"} if "params__year" in inputs else {"params": '{"year": 2026}'}
    saved = keeper.post(address, {**posted(page), **given})
    assert saved.status_code == 302, errors_of(saved)
    schedule.refresh_from_db()
    assert (schedule.report_id, schedule.params) == (int(other), {"year": 2026})


def test_inputs_whose_schema_has_changed_meanwhile_are_not_dropped(keeper: Client, two_reports: None):
    schedule = build_schedule(report_id=7, params={"day": "x"})
    address, enqueue = f"{SCHEDULES}{schedule.pk}/change/", f"{ENQUEUE}?schedule={schedule.pk}"
    pages = [keeper.get(address), keeper.get(enqueue)]
    Report.objects.filter(pk=7).update(params_schema={"properties": {"day": {}}})
    refused = keeper.post(address, posted(pages[0]))
    assert "have changed meanwhile" in str(errors_of(refused)["report_id"])
    assert json.loads(posted(refused)["params"]) == {"day": "x"}
    refused = keeper.post(enqueue, posted(pages[1]))
    assert any("have changed meanwhile" in said for said in messages_of(refused))
    assert json.loads(posted(refused)["params"]) == {"day": "x"}
    assert not ReportQueue.objects.exists()


def test_after_an_error_the_report_is_still_named_and_its_parameters_are_those_that_were_typed(
    keeper: Client, two_reports: None
):
    for report, params in ((9, ""), (9, '{"a":  1}'), (9, "{"), (7, None)):
        page = keeper.get(f"{ENQUEUE}?report_id={report}")
        typed = {} if params is None else {"params": params}
        refused = keeper.post(ENQUEUE, {**posted(page), "modifier_id": "x", **typed})
        assert refused.status_code == 200
        assert Report.objects.get(pk=report).name in text_of(refused).partition("Show the inputs")[0]
        if params is not None:
            assert form_of(refused)["params"].value() == params
    empty = keeper.get(ENQUEUE)
    assert form_of(empty)["params"].value() == "{}"
    assert QUEUE in ENQUEUE
