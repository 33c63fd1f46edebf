"""The API's bounds that the Dagster library repeats, as it imports nothing of the web app: both sides agree."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from rest_framework import serializers

from dagster_reportqueue import arguments, environment
from dagster_reportqueue import bounds as ours
from dagster_reportqueue.client import MAX_BATCH_ROWS, ApiRefused, ReportQueueClient, parsing, producing, transport
from dagster_reportqueue.execution import run
from dagster_reportqueue.sensors import queue_sensor, reconciliation
from reportqueue import bounds, states
from reportqueue.api.serializers import queue as shapes
from reportqueue.conf import Conf
from reportqueue.patterns import Pattern

BOUNDS = {
    "rows in a claim": (ours.MAX_CLAIM, bounds.MAX_CLAIM),
    "the wait of a claim": (queue_sensor.MAX_WAIT_SECONDS, bounds.MAX_WAIT_SECONDS),
    "claims that wait in a process": (arguments.MAX_LANES, Conf().max_waiters),
    "rows in a page": (parsing.PAGE, bounds.MAX_PAGE),
    "reports in a call": (producing.MAX_BULK, bounds.MAX_BULK),
    "the body of a call with many reports": (producing.MAX_BULK_BYTES, Conf().max_body_bytes),
    "the shortest lease": (ours.MIN_LEASE_SECONDS, bounds.MIN_LEASE_SECONDS),
    "the longest lease": (ours.MAX_LEASE_SECONDS, bounds.MAX_LEASE_SECONDS),
    "the lease of a run": (run.LEASE_SECONDS, Conf().run_lease_seconds),
    "the delay of a retry": (ours.MAX_DELAY_SECONDS, bounds.MAX_DELAY_SECONDS),
    "an error": (ours.MAX_ERROR_BYTES, bounds.MAX_ERROR_BYTES),
    "a progress": (ours.MAX_PROGRESS_LENGTH, bounds.MAX_PROGRESS_LENGTH),
    "a name": (ours.MAX_NAME_LENGTH, bounds.MAX_NAME_LENGTH),
    "parameters and results": (ours.MAX_JSON_BYTES, bounds.MAX_JSON_BYTES),
    "the depth of JSON": (ours.MAX_JSON_DEPTH, bounds.MAX_JSON_DEPTH),
    "the earliest instant": (ours.EARLIEST, bounds.EARLIEST),
    "the latest instant": (ours.LATEST, bounds.LATEST),
    "the patterns": (set(environment.PATTERNS), set(Pattern.values)),
    "the final statuses": (set(reconciliation.FINAL), set(states.FINAL)),
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bound_is_the_same_on_both_sides(bound: str):
    here, there = BOUNDS[bound]
    assert here == there


def fields() -> Iterator[tuple[str, Any]]:
    """The fields of all requests to the queue, by their names."""
    for body in vars(shapes).values():
        if isinstance(body, type) and issubclass(body, shapes.Body):
            yield from body().fields.items()


@pytest.mark.parametrize("name", ours.NUMBERS)
def test_a_number_of_a_request_has_the_bounds_of_the_api(name: str):
    found = {(field.min_value, field.max_value) for other, field in fields() if other == name}
    assert found == {ours.NUMBERS[name]}


@pytest.mark.parametrize("name", ours.TEXTS)
def test_a_text_of_a_request_has_the_bounds_of_the_api(name: str):
    found = {(int(not field.allow_blank), field.max_length) for other, field in fields() if other == name}
    assert found == {ours.TEXTS[name]}


def test_no_number_of_a_request_is_forgotten():
    numbers = {name for name, field in fields() if isinstance(field, serializers.IntegerField)}
    assert numbers == set(ours.NUMBERS)


CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE
VALUES = {
    "empty": {},
    "none": None,
    "a list": [],
    "a text": "{}",
    "a number": 1,
    "full to the brim": {"a": "é" * ((64 * 1024 - 8) // 2)},
    "one character too much": {"a": "é" * ((64 * 1024 - 6) // 2)},
    "NUL": {"a": ["x\x00"]},
    "NUL in a name": {"a": {"\x00": 1}},
    "a backslash": {"a": "\\u0000"},
    "half a character": {"a": "\ud800"},
    "NaN": {"a": float("nan")},
    "infinity": {"a": [float("-inf")]},
    "a huge integer": {"a": 10**5_000},
    "an instant": {"a": bounds.EARLIEST},
    "a tuple": {"a": (1, "b\x00")},
    "a circle": CIRCLE,
    "a set": {"a": {1}},
}


def told(check: Any, value: Any) -> str:
    """What the web app says of a value."""
    try:
        check(value)
    except ValidationError as error:
        return error.messages[0]
    return ""


@pytest.mark.parametrize("value", VALUES)
def test_an_object_is_judged_alike_on_both_sides(value: str):
    assert ours.object_problem(VALUES[value]) == told(bounds.validate_json_object, VALUES[value])


@pytest.mark.parametrize(
    "value",
    [bounds.EARLIEST, bounds.EARLIEST - timedelta(microseconds=1), bounds.LATEST, datetime(2026, 1, 1), "now", None],  # noqa: DTZ001
)
def test_an_instant_is_judged_alike_on_both_sides(value: Any):
    assert ours.instant_problem(value) == told(bounds.validate_instant, value)


@pytest.mark.parametrize("depth", [99, 100, 101])
def test_the_depth_of_json_is_judged_alike_on_both_sides(depth: int):
    value = [0]
    for _ in range(depth - 1):
        value = [value]
    text = repr(value)
    assert ours.depth_problem(value) == told(bounds.parse_json, text)


@pytest.mark.parametrize("text", ["short", "é" * 10_000, "é" * 10_000 + "a"])
def test_the_end_of_an_error_is_kept_alike_on_both_sides(text: str):
    assert ours.last_bytes(text) == bounds.last_bytes(text)


def test_the_client_sends_no_body_that_the_api_would_refuse_for_its_size():
    assert Conf().max_body_bytes >= transport.MAX_BODY_BYTES


def test_a_call_for_several_rows_takes_as_many_as_the_client_says(client: ReportQueueClient):
    generations = dict.fromkeys(range(1, MAX_BATCH_ROWS + 2), 1)
    assert len(client.start_many(generations, run_id="run")) == MAX_BATCH_ROWS + 1  # in two calls
    rows = [{"queue_id": pk, "generation": 1} for pk in generations]
    with pytest.raises(ApiRefused, match=f"At most {MAX_BATCH_ROWS} rows"):
        client.post("report-queue/start/", {"run_id": "run", "rows": rows})
