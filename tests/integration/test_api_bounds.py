"""Every bound of the contract, just inside and just beyond; beyond is refused by the field's name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponse
from rest_framework.test import APIClient

from reportqueue.models.alert import Condition
from reportqueue.models.event import SUBSCRIBABLE
from reportqueue.wakeup import claims
from tests.conftest import ClientFactory
from tests.integration.test_api_endpoints import CALLS, WITH_BODY, Call, problem, tables

NUMBERS = ["x", "", None, True, [], {}, 1.5, 1e300, -1e300, 10**4000]
"""None of them is a whole number within any bound."""
TEXTS = [None, True, [], {}, "a\0b", "\ud800", "b\udc00"]
"""None of them is a text that can be stored."""


@pytest.fixture
def api(client_with: ClientFactory, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    """A client that may do everything; its claims do not wait."""
    monkeypatch.setattr(claims, "wait", lambda *arguments, **more: False)
    return client_with(*{scope for call in CALLS for scope in call.scopes})


def send(api: APIClient, call: Call, subject: Any, body: Any, **headers: str) -> HttpResponse:
    """The call with another body: text and bytes as they are, anything else as JSON, NaN and all."""
    text = body if isinstance(body, str | bytes) else json.dumps(body, default=str)
    return api.generic(call.method, call.address(subject), text, "application/json", headers=headers)


def object_of(size: int) -> dict[str, str]:
    """A JSON object of that many bytes, compact; its characters have two each."""
    padding = size - len('{"é":""}'.encode())
    return {"é": "é" * (padding // 2) + "x" * (padding % 2)}


def or_null(bounds: tuple[list[Any], list[Any]]) -> tuple[list[Any], list[Any]]:
    """The bounds of a field that may be null."""
    inside, beyond = bounds
    return [None, *inside], [value for value in beyond if value is not None]


CALL = {str(call): call for call in CALLS}
LEASE = ([5, 86_400], [4, 86_401, 0, -1, *NUMBERS])
DELAY = ([0, 30 * 86_400], [-1, 30 * 86_400 + 1, *NUMBERS])
GENERATION = ([1], [0, -1, 2**31, *NUMBERS])
ID = ([0, 2**63 - 1], [-1, 2**63, *NUMBERS])
PRIORITY = ([-100, 100, 0], [-101, 101, *NUMBERS])
ATTEMPTS = ([1, 100], [0, 101, *NUMBERS])
NAME = (["x", "é" * 100], ["", "x" * 101, *TEXTS])
REASON = (["", "é" * 1000], ["x" * 1001, *TEXTS])
TOKEN = ([], ["", "x", None, True, 1, 1.5, [], {}, "a\0b", "\ud800"])
INSTANT = (
    ["1970-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z", "2026-11-23T08:00:00+05:30", "1970-01-01T14:00+14:00"],
    [
        *("2026-11-23T08:00:00", "2026-11-23", "2026-02-30T08:00:00Z", "tomorrow", "", 1_795_420_800),
        *("1969-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01"),
        *("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"),
        *("9999-12-31T23:59:59.999999Z", "10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", *TEXTS),
    ],
)
FLAG = ([True, False], ["maybe", None, 2, [], {}])
UNSTORABLE = [{"text": "a\0b"}, {"a\0b": 1}, {"list": [{"x": ["\0"]}]}, {"text": "\ud800"}, {"\udc00": 1}]
WRONG_CHOICES = ["", "x", "SKIP", "Skip it", 1, *TEXTS]
OBJECT = (
    [
        {},
        object_of(64 * 1024),
        {"text": "\\u0000"},
        {"n": [10**300, 1e-300, -0.0, None, True]},
        {"\\": "\x01\x7f\uffff😀"},
    ],
    [object_of(64 * 1024 + 1), [], "{}", 1, False, [{}], *UNSTORABLE],
)
ROUTE = (["default", "a", "0.b_c-d", "r" * 50], ["", "A", "é", "a b", "-a", "a/b", "r" * 51, "a\n", *TEXTS])


def up_to(most: int) -> tuple[list[Any], list[Any]]:
    """A whole number from 1 on, or none."""
    return or_null(([1, most], [0, -1, most + 1, *NUMBERS]))


CATALOGUE = {
    "description": (["", "é" * 4_000], ["x" * 4_001, *TEXTS]),
    "owner": (["", "é" * 100], ["x" * 101, *TEXTS]),
    "params_schema": (
        [None, {}, {"type": "object", "required": ["day"]}],
        [[], 1, "x", {"type": "no"}, {"type": "array"}, {"$ref": "http://example.org"}, object_of(65_537)],
    ),
    "default_params": (OBJECT[0], [*OBJECT[1], None]),
    "priority": or_null(PRIORITY),
    "max_attempts": or_null(ATTEMPTS),
    "lease_seconds": or_null(LEASE),
    "route": (ROUTE[0], [value for value in ROUTE[1] if value != "a\n"]),  # a space around it is left out
    "max_running": up_to(1_000_000),
    "max_running_per_modifier": up_to(1_000_000),
    "expires_after_seconds": up_to(366 * 86_400),
    "deadline_seconds": up_to(366 * 86_400),
    # One without the other is refused: test_a_rate_without_a_period_is_refused.
    "rate_limit": ([None], [0, -1, 10_001, *(value for value in NUMBERS if value is not None)]),
    "rate_period_seconds": ([None], [0, -1, 31 * 86_400 + 1, *(value for value in NUMBERS if value is not None)]),
}
ROWS: tuple[list[Any], list[Any]] = ([], [None, [], {}, "x", 1, True, [{}] * 101])
"""What a row itself may be: test_batch_calls.py."""
BOUNDS = {
    "POST queue": {
        "report_id": ID,
        "modifier_id": ID,
        "trigger_time": INSTANT,
        "params": (OBJECT[0], [*OBJECT[1], None]),
        "priority": PRIORITY,
        "max_attempts": ATTEMPTS,
        "route": ROUTE,
        "unique": (["unfinished"], ["", "finished", *TEXTS]),
        "idempotency_key": (["x", "é" * 200], ["", "x" * 201, *TEXTS]),
    },
    "POST claim": {
        "consumer": NAME,
        "ack": ([None], [value for value in TOKEN[1] if value is not None]),
        "limit": ([1, 1000], [0, 1001, *NUMBERS]),
        "wait_seconds": ([0, 0.5, 25], [-0.1, 25.1, "nan", "inf", "x", None, True, False, [], {}, 1e300, 10**4000]),
        "lease_seconds": LEASE,
        "dispatch_lease_seconds": LEASE,
        "deployment": (["", "x" * 100], ["x" * 101, *TEXTS]),
        "max_unstarted": ([1, 2**31 - 1], [0, -1, 2**31, *NUMBERS]),
        "max_in_flight": ([1, 2**31 - 1], [0, -1, 2**31, *NUMBERS]),
        # What one of a list is refused for is named with its place: test_what_is_wrong_in_a_list_of_routes.
        "routes": ([None, ["default"], [f"r{number}" for number in range(50)]], [[], "default", {}, 1, ["r"] * 51]),
    },
    "POST start": {
        "generation": GENERATION,
        "run_id": NAME,
        "parent_run_id": (["", *NAME[0]], NAME[1][1:]),
        "worker": (["", *NAME[0]], NAME[1][1:]),
        "lease_seconds": LEASE,
    },
    "POST start-firing": {
        "trigger_time": ([], INSTANT[1]),
        "run_id": NAME,
        "parent_run_id": (["", *NAME[0]], NAME[1][1:]),
        "worker": (["", *NAME[0]], NAME[1][1:]),
        "lease_seconds": LEASE,
    },
    "POST queue-firing": {"trigger_time": ([], INSTANT[1])},
    "POST heartbeat": {
        "lease_token": TOKEN,
        "lease_seconds": LEASE,
        "progress": (["", "é" * 200], ["x" * 201, *TEXTS]),
    },
    "POST heartbeat of a waiting run": {"generation": GENERATION, "run_id": NAME, "lease_seconds": LEASE},
    "POST complete": {"lease_token": TOKEN, "result": ([None, *OBJECT[0]], OBJECT[1])},
    "POST fail": {
        "lease_token": TOKEN,
        "error": (["", "x" * 100_000, "a\0b", "\ud800"], [None, True, [], {}]),
        "retryable": FLAG,
        "retry_after_seconds": DELAY,
    },
    "POST fail of a launch": {
        "generation": GENERATION,
        "run_id": NAME,
        "error": (["", "x" * 100_000, "a\0b", "\ud800"], [None, True, [], {}]),
        "counts": FLAG,
    },
    "POST release": {"lease_token": TOKEN, "delay_seconds": DELAY, "reason": REASON, "begun": FLAG},
    "POST release of a claim": {"claim_id": TOKEN, "delay_seconds": DELAY, "reason": REASON},
    "POST start-batch": {
        "run_id": NAME,
        "parent_run_id": (["", *NAME[0]], NAME[1][1:]),
        "worker": (["", *NAME[0]], NAME[1][1:]),
        "lease_seconds": LEASE,
        "rows": ROWS,
    },
    "POST heartbeat-batch": {"lease_seconds": LEASE, "rows": ROWS},
    "POST heartbeat-batch of a waiting run": {"run_id": NAME, "lease_seconds": LEASE, "rows": ROWS},
    "POST complete-batch": {"rows": ROWS},
    "POST cancel": {"reason": REASON},
    "POST cancel by its owner": {"lease_token": TOKEN, "reason": REASON},
    "POST requeue": {"reason": REASON},
    "POST schedules": {
        "report_id": ID,
        "modifier_id": ID,
        "cron": (["* * * * *", "0 8 * * MON", "@daily"], ["", "x", "* * * * * *", "60 * * * *", "* " * 101, *TEXTS]),
        "timezone": (["UTC", "Europe/Paris"], ["", "Mars/Olympus", "../etc/passwd", "x" * 65, *TEXTS]),
        "enabled": FLAG,
        "params": (OBJECT[0], [*OBJECT[1], None]),
        "priority": PRIORITY,
        "max_attempts": ATTEMPTS,
        "start_at": or_null(INSTANT),
        "end_at": or_null(INSTANT),
        "calendar_id": or_null(([], [0, -1, 1, 2**63 - 1, 2**63, *NUMBERS])),
        "blackout": (["skip", "next_open_day", "previous_open_day"], WRONG_CHOICES),
        "catch_up": (["skip", "last", "all"], WRONG_CHOICES),
        "catch_up_window_seconds": ([60, 366 * 86_400], [59, 366 * 86_400 + 1, 0, -1, *NUMBERS]),
        "catch_up_limit": ([1, 1000], [0, 1001, -1, *NUMBERS]),
        "overlap": (["allow", "skip", "queue_one"], WRONG_CHOICES),
        "jitter_seconds": ([0, 86_400], [-1, 86_401, *NUMBERS]),
        "unique": FLAG,
    },
    "POST schedules of an interval": {
        "interval_seconds": (
            [10, 366 * 86_400],
            [9, 366 * 86_400 + 1, 0, -1, 2**31, *(value for value in NUMBERS if value is not None)],
        ),
    },
    "POST pause": {"note": REASON},
    "POST pause-queue": {"route": ROUTE, "report_id": ID, "note": REASON},
    "POST resume-queue": {"route": ROUTE, "report_id": ID},
    "POST bulk": {
        "verb": (["requeue", "cancel"], ["", "complete", "Requeue", 1, *TEXTS]),
        # What a filter is refused for is named with its name: test_api_bulk.py.
        "filters": ([{"report_id": 0}, {"modifier_id": 2**63 - 1, "processed": "any"}], [None, [], "x", 1, True, [{}]]),
        "all": ([False], [True, *FLAG[1]]),  # there are filters
        "reason": REASON,
        "dry_run": ([False], FLAG[1]),  # True: test_api_bulk.py
        "idempotency_key": (["x", "é" * 200], ["", "x" * 201, *TEXTS]),
    },
    "POST bulk-undo": {"reason": REASON},
    "POST catalogue": {
        "report_id": ID,
        "name": (["x", "é" * 100], ["", "x" * 101, *TEXTS]),
        **CATALOGUE,
    },
    "PATCH report": {"name": (["x", "é" * 100], ["", "x" * 101, *TEXTS]), **CATALOGUE},
    "POST backfill": {
        "start": (["1970-01-01T00:00:00Z", "1970-01-01T14:00+14:00"], INSTANT[1]),
        "end": (["1970-01-01T00:00:00Z", "1970-01-01T14:00+14:00"], [*INSTANT[1], "2999-12-31T23:59:59.999999Z"]),
        "dry_run": FLAG,
    },
}
ADDRESS = "https://example.com/"
BOUNDS["POST subscriptions"] = BOUNDS["PATCH subscription"] = {
    "url": (
        [ADDRESS, "https://8.8.8.8:8443/hook?a=b", ADDRESS + "x" * (500 - len(ADDRESS))],
        ["", "x", "http://example.com/", "https://10.0.0.1/", ADDRESS + "x" * (501 - len(ADDRESS)), *TEXTS],
    ),
    "description": (["", "é" * 200], ["x" * 201, *TEXTS]),
    "enabled": FLAG,
    "event_types": (
        [["report.failed"], list(map(str, SUBSCRIBABLE))],
        [[], ["report.failed"] * (len(SUBSCRIBABLE) + 1), "report.failed", None, {}, 1],
    ),
    "report_ids": ([[], [0, 2**63 - 1], list(range(100))], [list(range(101)), "1", None, {}, 1]),
}
BOUNDS["POST alert-rules"] = BOUNDS["PATCH alert-rule"] = {
    "name": NAME,
    "enabled": FLAG,
    "condition": (list(map(str, Condition)), WRONG_CHOICES),
    "in_a_row": ([2, 100], [1, 101, -1, *NUMBERS]),
    "waited_seconds": ([60, 31 * 86_400], [59, 31 * 86_400 + 1, -1, *NUMBERS]),
    "report_ids": ([[], [0, 2**63 - 1], list(range(100))], [list(range(101)), "1", None, {}, 1]),
    "emails": ([["a@example.com"] * 20], [["a@example.com"] * 21, "a@example.com", None, {}, 1]),
    "channels": ([[]], [["x"] * 21, ["no such channel"], "x", None, {}, 1]),
    "quiet_seconds": ([0, 31 * 86_400], [-1, 31 * 86_400 + 1, *NUMBERS]),
}
BOUNDS["PATCH schedule"] = BOUNDS["POST schedules"]
BOUNDS["PATCH schedule of an interval"] = BOUNDS["POST schedules of an interval"]
BOUNDS["POST new-preview"] = {**BOUNDS["POST schedules"], "count": ([1, 100], [0, 101, -1, *NUMBERS])}
BOUNDS["POST new-preview of an interval"] = BOUNDS["POST schedules of an interval"]
each_field = pytest.mark.parametrize(
    ("call", "field"),
    [pytest.param(CALL[name], field, id=f"{name}: {field}") for name, fields in BOUNDS.items() for field in fields],
)


@each_field
def test_the_bound_itself_is_accepted(api: APIClient, call: Call, field: str):
    for value in BOUNDS[str(call)][field][0]:
        subject = call.subject() if call.subject else None
        response = send(api, call, subject, {**call.body(subject), field: value})
        assert response.status_code == call.code, (value, response.content)


@each_field
def test_beyond_the_bound_is_400_naming_the_field(api: APIClient, call: Call, field: str):
    subject = call.subject() if call.subject else None
    before = tables()
    for value in BOUNDS[str(call)][field][1]:
        refused = problem(send(api, call, subject, {**call.body(subject), field: value}), "validation", 400)
        assert list(refused["errors"]) == [field], (value, refused)
        assert refused["detail"].startswith(f"{field}: ")
    assert tables() == before


def test_every_field_has_its_bounds_in_the_table(api: APIClient):
    listed: dict[str, set[str]] = {}
    for name, fields in BOUNDS.items():
        listed.setdefault(" ".join(name.split()[:2]), set()).update(fields)
    for call in WITH_BODY:
        subject = call.subject() if call.subject else None
        refused = problem(send(api, call, subject, {**call.body(subject), "unknown": 1}), "validation", 400)
        known = refused["errors"]["unknown"][0].partition("the fields here are ")[2].rstrip(".").split(", ")
        assert set(filter(None, known)) <= listed.get(f"{call.method} {call.name}", set())


@pytest.mark.parametrize("call", WITH_BODY, ids=str)
def test_an_unknown_field_is_400_naming_it(api: APIClient, call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    for name in ("reprot_id", "", "status", "id", "\ud800", "\0", "x" * 100, "Consumer"):
        refused = problem(send(api, call, subject, {**call.body(subject), name: 1}), "validation", 400)
        assert list(refused["errors"]) == [name.replace("\ud800", "?")]
    many = dict.fromkeys(map(str, range(20_000)))
    assert len(send(api, call, subject, {**call.body(subject), **many}).content) < 10_000
    assert tables() == before
