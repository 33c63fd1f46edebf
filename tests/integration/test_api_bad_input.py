"""What must not get in, beyond single fields: each is refused with a problem document, none is a server error."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.http import HttpResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.fields import Field
from rest_framework.test import APIClient

from reportqueue import bounds
from reportqueue.api.serializers.catalogue import ReportSerializer
from reportqueue.api.serializers.queue import Body
from reportqueue.api.serializers.schedules import ScheduleSerializer
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from reportqueue.wakeup import claims
from tests.conftest import ClientFactory, RowFactory
from tests.integration.test_api_bounds import BOUNDS, send
from tests.integration.test_api_endpoints import CALLS, WITH_BODY, Call, problem, tables

REPORT = {"report_id": 1, "modifier_id": 2}
each_call_with_a_body = pytest.mark.parametrize("call", WITH_BODY, ids=str)
each_call_by_id = pytest.mark.parametrize("call", [call for call in CALLS if call.by_id], ids=str)


@pytest.fixture
def api(client_with: ClientFactory, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    """A client that may do everything; its claims do not wait."""
    monkeypatch.setattr(claims, "wait", lambda *arguments, **more: False)
    return client_with(*{scope for call in CALLS for scope in call.scopes})


def _fields() -> dict[str, Field]:
    """Each field of each shape of the API that a caller may give, but for those of yes and no and of any JSON."""
    shapes: list[Any] = [Body, ScheduleSerializer, ReportSerializer]
    found: dict[str, Field] = {}
    while shapes:
        shape = shapes.pop()
        shapes += shape.__subclasses__()
        if shape.__module__.startswith("reportqueue."):
            for name, field in shape().fields.items():
                if not field.read_only and not isinstance(field, serializers.BooleanField | serializers.JSONField):
                    found[f"{shape.__name__}.{name}"] = field
    return found


GIVEN = _fields()


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_neither_numbers_nor_texts(name: str, value: bool):
    assert len(GIVEN) > 80
    with pytest.raises(serializers.ValidationError):
        GIVEN[name].run_validation(value)


# What is not JSON, or not within JSON's reach.


@each_call_with_a_body
def test_what_is_not_json_is_400(api: APIClient, call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    bad = ["{", "[1,]", "{'a': 1}", " ", "\ufeff", b"\xff\xfe\xff", b'{"a": "\xe4"}', '{"a": 1} {"a": 1}', '{"a":"\0"}']
    for body in [*bad, '{"a": NaN}', '{"a": Infinity}', "-Infinity", '{"a": ' + "9" * 5000 + "}"]:
        problem(send(api, call, subject, body), "malformed", 400)
    assert tables() == before


@each_call_with_a_body
def test_json_that_is_nested_too_deeply_is_400(api: APIClient, call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    for body in (
        *("[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000),
        *('{"lease_token":' + "[" * depth + "]" * depth + "}" for depth in (100, 300, 900)),
    ):
        refused = problem(send(api, call, subject, body), "malformed", 400)
        assert "nested" in refused["detail"] or not body.endswith(("]", "}"))
    assert tables() == before


def test_json_may_be_nested_a_hundred_deep(api: APIClient):
    body = '{"report_id":1,"modifier_id":2,"idempotency_key":"k","params":{"a":%s"\\u005cu0000"%s}}'
    made = post_raw(api, body % ("[" * 98, "]" * 98))
    assert made.status_code == 201, made.content
    assert made.json()["params"] == ReportQueue.objects.get().params
    problem(post_raw(api, body % ("[" * 99, "]" * 99)), "malformed", 400)


def post_raw(api: APIClient, body: str | bytes, content_type: str = "application/json", **headers: Any) -> HttpResponse:
    """Enqueue with just these bytes."""
    return api.generic("POST", "/api/report-queue/", body, content_type, headers=headers)


@each_call_with_a_body
def test_a_body_that_is_no_object_is_400(api: APIClient, call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    for body in ("null", "1", "1e400", '"text"', "true", "[]", "[[]]", "[null]", '["lease_token"]', '"\\ud800"'):
        problem(send(api, call, subject, body), "validation", 400)
    assert tables() == before


@each_call_with_a_body
def test_another_content_type_is_415(api: APIClient, call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
    ):
        problem(api.generic(call.method, call.address(subject), "{}", kind), "unsupported-media-type", 415)
    assert tables() == before


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "iso-8859-1", "zlib", "hex", "rot13", "undefined", "idna", "?"])
def test_a_body_is_utf_8_whatever_charset_it_claims(api: APIClient, charset: str):
    body = json.dumps({**REPORT, "params": {"ä": "€"}}, ensure_ascii=False).encode()
    answer = post_raw(api, body, f"application/json; charset={charset}")
    assert answer.status_code == 201, answer.content
    assert answer.json()["params"] == {"ä": "€"}


def test_an_answer_in_another_format_is_406(api: APIClient):
    for path in ("report-queue/", "schedules/"):
        problem(api.get(f"/api/{path}", headers={"Accept": "text/html"}), "not-acceptable", 406)


# Size.


@each_call_with_a_body
def test_a_body_over_the_limit_is_413(api: APIClient, call: Call, settings: Any):
    settings.REPORTQUEUE = {"MAX_BODY_BYTES": 2000}
    subject = call.subject() if call.subject else None
    before = tables()
    body = json.dumps(call.body(subject), default=str)
    assert "2,000" in problem(send(api, call, subject, body.ljust(2001)), "body-too-large", 413)["detail"]
    assert tables() == before
    assert send(api, call, subject, body.ljust(2000)).status_code == call.code


def test_a_body_may_be_larger_than_django_lets_a_form_be(api: APIClient):
    assert post_raw(api, json.dumps(REPORT).ljust(8 * 1024 * 1024)).status_code == 201
    problem(post_raw(api, json.dumps(REPORT).ljust(8 * 1024 * 1024 + 1)), "body-too-large", 413)


def test_a_body_of_unstated_length_is_411_rather_than_taken_for_none(api: APIClient, make_row: RowFactory):
    row = make_row()
    headers = {"Transfer-Encoding": "chunked"}
    problem(api.generic("POST", f"/api/report-queue/{row.pk}/cancel/", headers=headers), "length-required", 411)
    row.refresh_from_db()
    assert row.status == Status.QUEUED


def test_a_list_has_from_one_to_a_thousand_items(api: APIClient):
    for items in ([], [REPORT] * 1001):
        refused = problem(post_raw(api, json.dumps(items)), "validation", 400)
        assert refused["errors"] == {"": [f"A list has from 1 to 1,000 items; this one has {len(items):,}."]}
    assert not ReportQueue.objects.exists()


def test_a_list_names_the_place_of_each_mistake(api: APIClient):
    items = [REPORT, {**REPORT, "priority": 101}, {"report_id": -1}, 7, {**REPORT, "params": {"\0": 1}}, {"x\ud800": 1}]
    refused = problem(post_raw(api, json.dumps(items)), "validation", 400)
    names = ["[1].priority", "[2].report_id", "[2].modifier_id", "[3]", "[4].params", "[5].x?"]
    assert list(refused["errors"]) == names
    assert "[1].priority: " in refused["detail"]


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_an_idempotency_key_header_has_the_bounds_of_the_field(api: APIClient, key: str):
    refused = problem(post_raw(api, json.dumps(REPORT), **{"Idempotency-Key": key}), "validation", 400)
    assert list(refused["errors"]) == ["idempotency_key"]
    assert not ReportQueue.objects.exists()
    assert post_raw(api, json.dumps(REPORT), **{"Idempotency-Key": "x" * 200}).status_code == 201


# Non-finite numbers that JSON can spell.


def test_a_number_beyond_every_float_is_refused_by_name(api: APIClient):
    for field in ("report_id", "priority", "params", "trigger_time", "idempotency_key"):
        value = '{"n": 1e400}' if field == "params" else "-1e400"
        body = json.dumps({**REPORT, field: None}).replace("null", value)
        answer = post_raw(api, body)
        if field != "idempotency_key":  # there it is a text like any other: "-inf"
            assert list(problem(answer, "validation", 400)["errors"]) == [field]
    answer = api.generic(
        "POST", "/api/report-queue/claim/", '{"consumer":"x","wait_seconds":1e400}', "application/json"
    )
    assert list(problem(answer, "validation", 400)["errors"]) == ["wait_seconds"]


# Errors are kept, not refused.


@pytest.mark.parametrize(
    "name", ["POST fail", "POST fail of a launch"], ids=["by the owner", "of a run that never started"]
)
def test_a_longer_error_is_kept_to_its_last_16_kib(api: APIClient, name: str):
    call = next(call for call in CALLS if str(call) == name)
    subject = call.subject() if call.subject else None
    error = "first line\n" + "é" * 20_000 + "\0 \ud800 last line"
    answer = send(api, call, subject, {**call.body(subject), "error": error})
    assert answer.status_code == 200, answer.content
    kept = answer.json()["error"]
    assert kept.endswith("é\ufffd ? last line")
    assert bounds.MAX_ERROR_BYTES - 2 < len(kept.encode()) <= bounds.MAX_ERROR_BYTES


# Addresses.


@each_call_by_id
def test_an_unknown_id_is_404(api: APIClient, call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    address = call.address(subject)
    for pk in (0, subject.pk + 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, "9" * 5000, "-1", "1.0", "%00", "٣"):
        body = None if call.method in ("GET", "DELETE") else json.dumps(call.body(subject), default=str)
        path = address.replace(f"/{subject.pk}/", f"/{pk}/")
        arguments = [] if body is None else [body, "application/json"]
        problem(api.generic(call.method, path, *arguments), "not-found", 404)
    assert tables() == before


def cursor_of(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("limit", ["0", "1001", "-1", "+5", "1.5", "x", "", "٣", "9" * 5000]),
        ("status", ["gone", "QUEUED", "\0", "queued,failed"]),
        ("source", ["nobody", "\0"]),
        ("processed", ["maybe", "True", "1", "\0"]),
        ("report_id", ["-1", "1.5", "x", str(2**63), "NaN", "sNaN", "Infinity", "1e400", "1e999999999", "1e-5", "\0"]),
        ("modifier_id", ["-1", "1.5", "x", str(2**63), "9" * 5000]),
        *(
            (
                name,
                [
                    *("yesterday", "2026-11-23", "2026-11-23T08:00:00", "2026-02-30T00:00:00Z", "1", "\0", "T"),
                    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z"),
                ],
            )
            for name in ("trigger_time_after", "trigger_time_before")
        ),
        ("stauts", ["queued"]),
        ("format", ["csv"]),
        ("", [""]),
        (
            "cursor",
            [
                *("x", "é", "\0", "A" * 10_000, "bnVsbA==", base64.urlsafe_b64encode(b"[" * 5000).decode()),
                *map(
                    cursor_of,
                    [
                        *(None, 1, "text", {}, [], [False, 0, "2026-11-23T08:00:00+00:00"], [1, 2, 3, 4]),
                        [False, 0, "2026-11-23T08:00:00", 1],
                        [False, 0, "yesterday", 1],
                        [False, 101, "2026-11-23T08:00:00+00:00", 1],
                        [False, 10**400, "2026-11-23T08:00:00+00:00", 1],
                        [False, float("inf"), "2026-11-23T08:00:00+00:00", 1],
                        [False, float("nan"), "2026-11-23T08:00:00+00:00", 1],
                        [False, 0, "2026-11-23T08:00:00+00:00", -1],
                        [False, 0, "2026-11-23T08:00:00+00:00", 2**63],
                        [False, 0, "2026-11-23T08:00:00+00:00", [1]],
                        [False, 0, "0001-01-01T00:00:00+14:00", 1],
                        [False, 0, "9999-12-31T23:59:59-14:00", 1],
                    ],
                ),
            ],
        ),
    ],
)
def test_a_bad_parameter_of_the_list_is_400_naming_it(
    api: APIClient, make_row: RowFactory, name: str, values: list[str]
):
    make_row()
    for value in values:
        refused = problem(api.get("/api/report-queue/", {name: value}), "validation", 400)
        assert list(refused["errors"]) == [name], value


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_unknown_parameter_is_400_naming_it(api: APIClient, call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    body = [] if call.method == "GET" else [json.dumps(call.body(subject), default=str), "application/json"]
    answer = api.generic(call.method, f"{call.address(subject)}?dry_run=1&limit=5", *body)
    lists = ("queue", "bulk", "schedules", "catalogue", "alert-rules", "subscriptions", "deliveries")
    known = {"limit"} if str(call) in {f"GET {name}" for name in lists} else set()
    assert set(problem(answer, "validation", 400)["errors"]) == {"dry_run", "limit"} - known
    assert tables() == before


# Anything at all.

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted({field for fields in BOUNDS.values() for field in fields}))
TRIED = [value for fields in BOUNDS.values() for inside, beyond in fields.values() for value in (*inside, *beyond)]


def check_refusal(response: HttpResponse) -> None:
    assert response.status_code < 500
    if response.status_code >= 400:
        problem(response, response.json()["type"], response.status_code)


@each_call_with_a_body
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_body_is_a_server_error(api: APIClient, call: Call, data: st.DataObject):
    subject = call.subject() if call.subject else None
    some = st.dictionaries(FIELDS, JSON | st.sampled_from(TRIED), max_size=4)
    nearly = some.map(lambda fields: {**call.body(subject), **fields})
    body = data.draw(JSON | some | nearly | st.lists(nearly, max_size=3) | st.binary(max_size=30))
    check_refusal(send(api, call, subject, body if not isinstance(body, str) else json.dumps(body)))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(["status", "processed", "report_id", "trigger_time_after", "cursor", "limit"]) | st.text(),
        st.text(max_size=30) | st.integers().map(str) | st.floats().map(str) | JSON.map(cursor_of),
        max_size=3,
    )
)
def test_no_query_is_a_server_error(api: APIClient, query: dict[str, str]):
    check_refusal(api.get("/api/report-queue/", query))
