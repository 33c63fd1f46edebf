"""JSON in the admin's forms: whatever a person types is stored or refused at its field, and never a server error."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.test import Client

from reportqueue.models import ReportSchedule, WebhookSource

SOURCES = "/admin/reportqueue/webhooksource/"
SCHEDULES = "/admin/reportqueue/reportschedule/"
SOURCE = {
    "name": "shop",
    "report_id": "3",
    "modifier_id": "7",
    "modifier_path": "",
    "priority": "0",
    "max_attempts": "3",
}
SCHEDULE = {
    "report_id": "3",
    "modifier_id": "7",
    "cron": "0 8 * * *",
    "timezone": "UTC",
    "blackout": "skip",
    "overlap": "allow",
    "catch_up": "all",
    "catch_up_window_seconds": "3600",
    "catch_up_limit": "10",
    "jitter_seconds": "0",
    "priority": "0",
    "max_attempts": "3",
}
WRONG = {
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 3_000 + "1" + "}" * 3_000,
    "an object that is too deep": '{"a":' * 101 + "1" + "}" * 101,
    "half of a nesting": "[" * 100_000,
    "5,000 digits": '{"a": ' + "9" * 5_000 + "}",
    "5,000 digits alone": "9" * 5_000,
    "a surrogate in a value": '{"a": "\\ud800"}',
    "a surrogate in a name": '{"\\udc00": "a"}',
    "a surrogate alone": '"\\ud800"',
    "NUL in a value": '{"a": "a\\u0000b"}',
    "NUL in a name": '{"a\\u0000b": "a"}',
    "NUL itself": '{"a": "a\0b"}',
    "not a number": '{"a": NaN}',
    "infinity": "-Infinity",
    "no JSON": "{",
    "another type": "[1]",
    "too large": '{"a": "%s"}' % ("x" * 70_000),
}
FORMS = {"params_paths": (SOURCES, SOURCE, WebhookSource), "params": (SCHEDULES, SCHEDULE, ReportSchedule)}


@pytest.mark.parametrize("typed", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("field", FORMS)
def test_json_that_cannot_be_kept_is_refused_at_its_field(admin_client: Client, field: str, typed: str):
    address, given, model = FORMS[field]
    answer = admin_client.post(f"{address}add/", {**given, field: typed})
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    shown = html.unescape(answer.content.decode())
    assert typed.replace("\0", "") in shown.replace("\0", ""), "what was typed is not shown again"
    assert not model._default_manager.exists()
    # The same in the form of what exists.
    assert admin_client.post(f"{address}add/", {**given, field: "{}"}).status_code == 302
    made = model._default_manager.get()
    answer = admin_client.post(f"{address}{made.pk}/change/", {**given, field: typed})
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    made.refresh_from_db()
    assert getattr(made, field) == {}


@pytest.mark.parametrize("typed", WRONG.values(), ids=WRONG)
def test_the_preview_refuses_it_too(admin_client: Client, typed: str):
    answer = admin_client.post(f"{SCHEDULES}add/preview/", {**SCHEDULE, "params": typed})
    assert answer.status_code == 200
    assert answer.context["form_errors"]


def test_json_within_its_bounds_is_kept_and_shown(admin_client: Client):
    deep: Any = 1
    for _ in range(99):
        deep = [deep]
    typed = '{"ä": "€😀", "n": 17, "deep": ' + "[" * 99 + "1" + "]" * 99 + "}"
    assert admin_client.post(f"{SCHEDULES}add/", {**SCHEDULE, "params": typed}).status_code == 302
    made = ReportSchedule.objects.get()
    assert made.params == {"ä": "€😀", "n": 17, "deep": deep}
    assert "€😀" in admin_client.get(f"{SCHEDULES}{made.pk}/change/").content.decode()
    assert admin_client.post(f"{SCHEDULES}{made.pk}/change/", {**SCHEDULE, "params": ""}).status_code == 302
    made.refresh_from_db()
    assert made.params == {}
