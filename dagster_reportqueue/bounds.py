"""The API's bounds on what it is sent. This library imports nothing of the web app; a test holds both sides equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

MAX_JSON_BYTES = 64 * 1024
"""Of a row's parameters, and of its result."""
MAX_JSON_DEPTH = 100
"""How deep objects and lists of a request may be nested."""
MAX_ERROR_BYTES = 16 * 1024
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
"""Of a trigger time; the latest itself is not included."""
MAX_ROUTES, ROUTE = 50, r"[a-z0-9][a-z0-9_.-]{0,49}"
"""Routes that a claim names, and what one may be."""
MAX_NAME_LENGTH = 100
"""Of a consumer's name and of a run id."""
MAX_PROGRESS_LENGTH = 200
MAX_COUNT = 2**31 - 1
MAX_CLAIM = 1_000
"""Rows in a claim."""
MIN_LEASE_SECONDS, MAX_LEASE_SECONDS = 5, 86_400
MAX_DELAY_SECONDS = 30 * 86_400
NUMBERS = {
    "report_id": (0, 2**63 - 1),
    "modifier_id": (0, 2**63 - 1),
    "priority": (-100, 100),
    "max_attempts": (1, 100),
    "limit": (1, MAX_CLAIM),
    "max_in_flight": (1, MAX_COUNT),
    "max_unstarted": (1, MAX_COUNT),
    "generation": (1, MAX_COUNT),
    "lease_seconds": (MIN_LEASE_SECONDS, MAX_LEASE_SECONDS),
    "dispatch_lease_seconds": (MIN_LEASE_SECONDS, MAX_LEASE_SECONDS),
    "delay_seconds": (0, MAX_DELAY_SECONDS),
    "retry_after_seconds": (0, MAX_DELAY_SECONDS),
}
"""The lowest and the highest value of each whole number in a request, by its field."""
TEXTS = {
    "consumer": (1, MAX_NAME_LENGTH),
    "run_id": (1, MAX_NAME_LENGTH),
    "parent_run_id": (0, MAX_NAME_LENGTH),
    "worker": (0, MAX_NAME_LENGTH),
    "progress": (0, MAX_PROGRESS_LENGTH),
    "reason": (0, 1_000),
}
"""The fewest and the most characters of each text in a request, by its field."""


def problems(fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the numbers and the texts among these fields of a request, by their names."""
    found: dict[str, str] = {}
    for name, value in fields.items():
        if name in NUMBERS:
            found[name] = _number_problem(value, *NUMBERS[name])
        elif name in TEXTS:
            found[name] = _text_problem(value, *TEXTS[name])
    return {name: text for name, text in found.items() if text}


def _number_problem(value: object, low: int, high: int) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return "A valid integer is required."
    if value < low:
        return f"Ensure this value is greater than or equal to {low}."
    return f"Ensure this value is less than or equal to {high}." if value > high else ""


def _text_problem(value: object, fewest: int, most: int) -> str:
    if not isinstance(value, str):
        return "Not a valid string."
    if len(value) < fewest:
        return "This field may not be blank."
    return f"Ensure this field has no more than {most} characters." if len(value) > most else ""


def instant_problem(value: object) -> str:
    """What is wrong with a trigger time; empty if nothing is."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        return "Must be a date and time with its time zone."
    return "" if EARLIEST <= value < LATEST else "Must lie between the years 1970 and 2999."


def object_problem(value: object) -> str:
    """What is wrong with a value that must be a JSON object, as compact UTF-8; empty if nothing is."""
    if not isinstance(value, Mapping):
        return "Must be a JSON object."
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except (TypeError, RecursionError):
        return "Must be plain JSON, not nested too deeply."
    except UnicodeEncodeError:
        return "Lone surrogates (half a character) are not allowed."
    except ValueError:
        return "NaN, infinity and huge integers are not JSON."
    if size > MAX_JSON_BYTES:
        return f"Must be at most {MAX_JSON_BYTES:,} bytes of JSON; it has {size:,}."
    return "NUL characters are not allowed." if _has_nul(value) else ""


def depth_problem(request: object) -> str:
    """What is wrong with the depth of a request's JSON; empty if nothing is."""
    depth, level = 0, [request]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    if depth <= MAX_JSON_DEPTH:
        return ""
    return f"The JSON is nested too deeply: objects and lists may be {MAX_JSON_DEPTH} inside each other."


def last_bytes(error: str) -> str:
    """What the queue keeps of an error: its end, at most `MAX_ERROR_BYTES` of UTF-8."""
    return error.encode()[-MAX_ERROR_BYTES:].decode(errors="ignore")


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list | tuple) and any(_has_nul(part) for part in value)
