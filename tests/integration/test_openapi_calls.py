"""Calls that the API's description allows, and calls that it does not: no answer is a 5xx or outside the description.

Schemathesis makes the calls from the checked-in document. They go through the whole web app, to rows in each status.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test.client import ClientHandler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from standardwebhooks import Webhook

from reportqueue import bulk, queue, tokens, webhooks
from reportqueue.models import BlackoutCalendar, Report, ReportQueue, ReportSchedule, WebhookSource
from reportqueue.states import FINAL, Status
from tests import openapi
from tests.conftest import build_row, build_schedule
from tests.integration.test_api_endpoints import (
    build_alert_rule,
    build_delivery,
    build_done_bulk_action,
    build_fired_schedule,
    build_subscription,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
QUICK, LONG = 2, 100
"""Calls of each operation, of those that the description allows and of those that it does not."""
DONE = 30
"""At least so many operations do what they are asked: else the calls would only show how they are refused."""
SOURCE = "shop"
HANDLER = ClientHandler(enforce_csrf_checks=False)


def web_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The web app as Django's test client has it: a request does not close the test's connection to the database."""
    answer: Any = HANDLER(environ)
    start_response(f"{answer.status_code} {answer.reason_phrase}", list(answer.items()))
    return [answer.getvalue() if answer.streaming else answer.content]


DOCUMENT = schemathesis.openapi.from_dict(openapi.strict())
DOCUMENT.app = web_app
OPERATIONS = {one.ok().definition.raw["operationId"]: one.ok() for one in DOCUMENT.get_all_operations()}
PLAYED = [
    (name, mode)
    for name, operation in OPERATIONS.items()
    for mode in GenerationMode
    # Without a parameter and a body, there is nothing to do wrong.
    if mode is GenerationMode.POSITIVE or operation.definition.raw.keys() & {"parameters", "requestBody"}
]


IDS = [f"{name}, {mode.value}" for name, mode in PLAYED]


class World:
    """What the calls find: something in each state, and a token that may do everything."""

    def __init__(self) -> None:
        user = User.objects.create_user("everything")
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="reportqueue"))
        self.token = tokens.issue(user, name="test").key
        limited = {"params_schema": {"type": "object", "properties": {"year": {"type": "integer"}}}, "max_running": 1}
        Report.objects.create(report_id=1, name="One", **limited)
        Report.objects.create(report_id=2, name="Two", rate_limit=1, rate_period_seconds=60, expires_after_seconds=60)
        calendar = BlackoutCalendar.objects.create(name="Closed")
        plain = build_schedule()
        schedules = [
            plain,
            build_schedule(cron="", interval_seconds=3600, calendar=calendar, blackout="next_open_day"),
            build_schedule(cron="0 8 * * MON", timezone="Europe/Paris", jitter_seconds=60, overlap="queue_one"),
            build_schedule(enabled=False, paused_by="anna", pause_note="Stocktaking"),
            build_fired_schedule(),
        ]
        rows = [build_row(status=status, api_user=str(user.pk), claimed_by="sensor") for status in Status]
        rows += [build_row(status=status, report_id=2, schedule=plain) for status in FINAL]
        rows.append(build_row(status=Status.FAILED, error="no", fingerprint="0" * 16))
        rows.append(build_row(status=Status.RUNNING, cancel_requested=True))
        queue.pause(by="anna", route="slow")
        queue.pause(by="anna", report_id=2)
        actions = [build_done_bulk_action(), bulk.start("cancel", {"report_id": 9})]
        bulk.pause(actions[1].pk, by="anna")
        self.secret = webhooks.secret(WebhookSource.objects.create(name=SOURCE, report_id=3, modifier_id=4))
        self.numbers = {
            "report-queue": [row.pk for row in rows],
            "reports": [row.pk for row in rows],
            "schedules": [one.pk for one in schedules],
            "catalogue": [1, 2, 9],
            "bulk": [one.pk for one in actions],
            "alert-rules": [build_alert_rule().pk],
            "webhook-subscriptions": [build_subscription().pk],
            "webhook-deliveries": [build_delivery().pk],
        }

    def number(self, path: str, pick: int) -> int:
        """Of what the address names."""
        name = "bulk" if "/bulk/" in path else path.split("/")[1]
        numbers = self.numbers[name]
        return numbers[pick % len(numbers)]


def steer(case: Any, world: World, pick: int) -> None:
    """Let the call name what is there, most of the time: what is random would only ever be unknown."""
    if "id" in case.path_parameters and pick % 7 < 6:
        case.path_parameters["id"] = world.number(case.operation.path, pick)
    if "source" in case.path_parameters and pick % 7 < 6:
        case.path_parameters["source"] = SOURCE
    body = case.body
    if not isinstance(body, dict) or pick % 3 == 2:
        return
    named = [case.path_parameters.get("id"), *(one.get("queue_id") for one in rows_of(body))]
    rows = ReportQueue.objects.filter(pk__in=[one for one in named if isinstance(one, int) and 0 <= one < 2**63])
    row = rows.first()
    for part in (body, *rows_of(body)):
        if row is None:
            break
        for name in ("lease_token", "claim_id"):
            if name in part and getattr(row, name):
                part[name] = str(getattr(row, name))
        if "generation" in part:
            part["generation"] = max(1, row.generation)
        if "queue_id" in part:
            part["queue_id"] = row.pk
    if "consumer" in body:
        body["consumer"] = "sensor"
    if "trigger_time" in body and "run_id" in body:
        fired = ReportSchedule.objects.exclude(next_run_at=None).order_by("next_run_at").first()
        assert fired is not None
        body["trigger_time"] = fired.next_run_at.isoformat()


def rows_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a call for several."""
    rows = body.get("rows")
    return [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []


def signed(body: Any, world: World) -> dict[str, Any]:
    """The options of a call that its source has signed."""
    data = json.dumps(body if isinstance(body, dict | list) else {}, default=str)
    now = datetime.now(UTC)
    return {
        "data": data.encode(),
        "headers": {
            "Content-Type": "application/json",
            "webhook-id": "delivery",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(world.secret).sign("delivery", now, data),
        },
    }


def play(world: World, name: str, mode: GenerationMode, examples: int) -> set[int]:
    """Make so many calls of an operation, each to the same world; returns the statuses of the answers."""
    codes = set()
    operation = OPERATIONS[name]
    kinds = st.integers(min_value=0, max_value=10_000)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == QUICK,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(case=operation.as_strategy(generation_mode=mode), pick=kinds)
    def call(case: Any, pick: int) -> None:
        with transaction.atomic():
            steer(case, world, pick)
            options: dict[str, Any] = {"headers": {"Authorization": f"Token {world.token}"} if pick % 11 < 10 else {}}
            if name == "deliver" and pick % 5 < 4:
                options = signed(case.body, world)
            answer = case.call(**options)
            transaction.set_rollback(True)
        codes.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    call()
    return codes


@pytest.fixture
def _no_waiting(settings: Any, db: None) -> None:
    """A claim that may not wait is answered at once."""
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "MAX_WAITERS": 0}


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_a_few_calls_of_each_operation_are_answered_as_described(mode: GenerationMode):
    world = World()
    codes = {name: play(world, name, mode, QUICK) for name, played in PLAYED if played is mode}
    done = [name for name, found in codes.items() if min(found) < 300]
    assert mode is GenerationMode.NEGATIVE or len(done) > DONE, f"these calls do little: {codes}"


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize(("name", "mode"), PLAYED, ids=IDS)
def test_many_calls_are_answered_as_described(name: str, mode: GenerationMode):
    play(World(), name, mode, LONG)
