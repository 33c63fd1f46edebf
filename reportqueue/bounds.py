"""The limits on everything that comes from outside, and the validators that hold them.

The numbers are the API's contract; models, serializers and commands all take them from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator

MAX_ID = 2**63 - 1
MIN_PRIORITY, MAX_PRIORITY = -100, 100
MAX_COUNT, MAX_SMALL_COUNT = 2**31 - 1, 2**15 - 1
"""The largest `integer` and `smallint` of PostgreSQL: a counter ends there."""
MIN_ATTEMPTS, MAX_ATTEMPTS, DEFAULT_ATTEMPTS = 1, 100, 3
MAX_JSON_BYTES = 64 * 1024
MAX_ERROR_BYTES = 16 * 1024
MAX_KEY_LENGTH = 200
MAX_NAME_LENGTH = 100
"""Of a consumer's name and of a run id."""
MAX_USER_LENGTH = 150
"""Of a user's name, of which the first characters are stored: a project's user model may allow longer names."""
MAX_REASON_LENGTH = 1_000
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


def id_validators() -> list[MinValueValidator | MaxValueValidator]:
    """Of a report's and a modifier's number."""
    return [MinValueValidator(0), MaxValueValidator(MAX_ID)]


def validate_instant(value: datetime) -> None:
    """Refuse an instant that is naive, or not between the years 1970 and 2999."""
    if not isinstance(value, datetime) or value.tzinfo is None:
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
