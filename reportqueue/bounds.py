"""The limits on everything that comes from outside, and the validators that hold them.

The numbers are the API's contract; models, serializers and commands all take them from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator

MAX_ID = 2**63 - 1
MIN_PRIORITY, MAX_PRIORITY = -100, 100
MAX_COUNT, MAX_SMALL_COUNT = 2**31 - 1, 2**15 - 1
"""The largest `integer` and `smallint` of PostgreSQL: a counter ends there."""
MIN_ATTEMPTS, MAX_ATTEMPTS, DEFAULT_ATTEMPTS = 1, 100, 3
MAX_JSON_BYTES = 64 * 1024
MAX_JSON_DEPTH = 100
"""How deep objects and lists may be nested. Deeper JSON exhausts the stack of code that copies or stores it."""
MAX_ERROR_BYTES = 16 * 1024
MAX_KEY_LENGTH = 200
MAX_NAME_LENGTH = 100
"""Of a consumer's name and of a run id."""
MAX_USER_LENGTH = 150
"""Of a user's name, of which the first characters are stored: a project's user model may allow longer names."""
MAX_LOGIN_LENGTH = 1_000
"""Of the name by which a user is found."""
MAX_API_USER_LENGTH = 255
"""Of the primary key of an API user, as a text."""
MAX_SCOPE_LENGTH = MAX_API_USER_LENGTH + 45
"""Of the text that says whose idempotency key it is."""
MAX_REASON_LENGTH = 1_000
MAX_DESCRIPTION_LENGTH = 4_000
MAX_ROUTE_LENGTH = 50
MAX_ROUTES = 50
"""Routes that one claim may name."""
MAX_METRICS_LABELS = 200
"""As many reports have running totals of their own."""
MAX_WEBHOOK_THREADS = 100
MAX_PROGRESS_LENGTH = 200
MAX_CLAIM = 1_000
MAX_BULK = 1_000
MAX_BATCH_ROWS = 100
"""Rows that one call may start, renew or complete."""
MAX_WAIT_SECONDS = 25
MIN_LEASE_SECONDS, MAX_LEASE_SECONDS = 5, 86_400
MAX_DELAY_SECONDS = 30 * 86_400
"""The longest that a retry or a release may put a row off."""
MAX_PAGE = 1_000
MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Of parameters, results and errors: once the rows of a page or of a claim have so many, it ends."""
MAX_FEED_BYTES = 4 * MAX_ANSWER_BYTES
"""Of the schedules' parameters in the list for sensors, which has no pages."""
ROWS_AT_ONCE = 100
"""Rows of a page or of a claim that are read before their size is known."""
MAX_ATTEMPTS_SHOWN = 500
"""Attempts in the answer for one row, the newest."""
MAX_PENDING = 1_000
"""Rows in the answer to one poll of pending rows."""
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
"""Bounds of the instants in requests and forms; the latest itself is not included."""
MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 10, 366 * 86_400
MAX_JITTER_SECONDS = 86_400
MIN_CATCH_UP_SECONDS, MAX_CATCH_UP_SECONDS = 60, 366 * 86_400
DEFAULT_CATCH_UP_SECONDS = 7 * 86_400
MAX_CATCH_UP = DEFAULT_CATCH_UP = 1_000
"""Missed firings of one schedule that are queued late."""


NUMBERS = {
    "report_id": (0, MAX_ID),
    "modifier_id": (0, MAX_ID),
    "priority": (MIN_PRIORITY, MAX_PRIORITY),
    "max_attempts": (MIN_ATTEMPTS, MAX_ATTEMPTS),
    "limit": (1, MAX_CLAIM),
    "max_in_flight": (1, MAX_COUNT),
    "max_unstarted": (1, MAX_COUNT),
    "generation": (1, MAX_COUNT),
    "lease_seconds": (MIN_LEASE_SECONDS, MAX_LEASE_SECONDS),
    "dispatch_lease_seconds": (MIN_LEASE_SECONDS, MAX_LEASE_SECONDS),
    "delay_seconds": (0, MAX_DELAY_SECONDS),
    "retry_after_seconds": (0, MAX_DELAY_SECONDS),
    "max_running": (1, 1_000_000),
    "max_running_per_modifier": (1, 1_000_000),
    "rate_limit": (1, 10_000),
    "rate_period_seconds": (1, 31 * 86_400),
    "expires_after_seconds": (1, 366 * 86_400),
    "deadline_seconds": (1, 366 * 86_400),
    "keep": (0, 1_000_000),
    "batch": (1, 10_000),
}
"""The lowest and the highest value of each whole number that the queue's verbs take, by its name."""


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number. Python and PostgreSQL would round others silently, and count True as 1."""
    return isinstance(value, int) and not isinstance(value, bool)


def number_problem(name: str, value: Any) -> str:
    """What is wrong with the number of this name; empty if nothing is."""
    low, high = NUMBERS[name]
    fine = is_whole(value) and low <= value <= high
    return "" if fine else f"Must be a whole number from {low:,} to {high:,}."


def validate_numbers(**numbers: Any) -> None:
    """Refuse numbers that are not whole or are out of bounds. The `ValidationError` names them."""
    if problems := {name: text for name, value in numbers.items() if (text := number_problem(name, value))}:
        raise ValidationError(problems)


def id_validators() -> list[MinValueValidator | MaxValueValidator]:
    """Of a report's and a modifier's number."""
    return [MinValueValidator(0), MaxValueValidator(MAX_ID)]


def is_instant(value: Any) -> TypeGuard[datetime]:
    """Whether the value is a date and time with its time zone: others cannot be compared with instants."""
    return isinstance(value, datetime) and value.tzinfo is not None


def validate_instant(value: datetime) -> None:
    """Refuse an instant that is naive, or not between the years 1970 and 2999."""
    if not is_instant(value):
        raise ValidationError("Must be a date and time with its time zone.", code="naive")
    if not EARLIEST <= value < LATEST:
        raise ValidationError("Must lie between the years 1970 and 2999.", code="out-of-range")


def validate_text(value: str) -> None:
    """Refuse what PostgreSQL cannot store in a text: NUL characters and lone surrogates."""
    if "\x00" in value:
        raise ValidationError("NUL characters are not allowed.", code="nul")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("Lone surrogates (half a character) are not allowed.", code="surrogate") from None


def json_size(*values: Any) -> int:
    """About how many bytes the values have as JSON."""
    return sum(len(json.dumps(value)) for value in values)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text as RFC 8259 has it; bytes may be in any Unicode encoding.

    Raises `ValidationError` for anything else, for JSON that is nested too deeply, and for huge integers.
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValidationError("The JSON is nested too deeply.", code="depth") from None
    except ValueError as error:
        raise ValidationError(f"This is not valid JSON: {error}.", code="not-json") from None
    validate_depth(data)
    return data


def validate_depth(data: Any) -> None:
    """Refuse JSON that is nested too deeply to be copied, stored or searched."""
    if _depth(data) > MAX_JSON_DEPTH:
        text = f"The JSON is nested too deeply: objects and lists may be {MAX_JSON_DEPTH} inside each other."
        raise ValidationError(text, code="depth")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _depth(data: Any) -> int:
    """How deep objects and lists are nested; counted level by level, without recursion."""
    depth, level = 0, [data]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def validate_json_object(value: Any) -> None:
    """Refuse anything but a JSON object of at most 64 KiB, as compact UTF-8, that PostgreSQL can store."""
    if not isinstance(value, Mapping):
        raise ValidationError("Must be a JSON object.", code="not-an-object")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, RecursionError):
        raise ValidationError("Must be plain JSON, not nested too deeply.", code="not-json") from None
    except UnicodeEncodeError:
        raise ValidationError("Lone surrogates (half a character) are not allowed.", code="surrogate") from None
    except ValueError:
        raise ValidationError("NaN, infinity and huge integers are not JSON.", code="not-finite") from None
    if size > MAX_JSON_BYTES:
        raise ValidationError(f"Must be at most {MAX_JSON_BYTES:,} bytes of JSON; it has {size:,}.", code="too-large")
    if "\\u0000" in text and _has_nul(value):
        raise ValidationError("NUL characters are not allowed.", code="nul")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return any(_has_nul(part) for part in value)
    return False


def last_bytes(text: str, limit: int = MAX_ERROR_BYTES) -> str:
    """The end of a text, at most `limit` bytes of UTF-8 and storable: an error's last lines say what happened."""
    data = text.replace("\x00", "\ufffd").encode(errors="replace")
    return data[-limit:].decode(errors="ignore")


def as_id(text: str) -> int | None:
    """The number, if the database can hold it. Digits of other scripts are refused, though int() accepts them."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ID))):
        return None
    given = int(text)
    return given if given <= MAX_ID else None
