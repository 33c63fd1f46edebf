"""Parsers of command line arguments: durations, instants and whole numbers; and who gives the command."""

from __future__ import annotations

import getpass
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError

from reportqueue import bounds

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36_500)


def duration(text: str) -> timedelta:
    """Parse `90d`, `12h`, `30m`, `45s` or `2w`. Raises `ArgumentTypeError`, which argparse reports."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if match is None or (found := timedelta(**{_UNITS[match[2]]: int(match[1])})) > _LONGEST:
        raise ArgumentTypeError(f"{text!r} is not a duration such as 90d, 12h, 30m or 2w, of at most 100 years")
    return found


def instant(text: str) -> datetime:
    """Parse an instant with its UTC offset. Raises `ArgumentTypeError` for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} is not an instant with its UTC offset, such as 2026-12-01T08:00:00Z")
    return found


def plain_text(text: str) -> str:
    """A text that can be stored and printed. Raises `ArgumentTypeError` for bytes that are not UTF-8, and for NUL."""
    try:
        bounds.validate_text(text)
    except ValidationError as error:
        raise ArgumentTypeError(f"{text[:100]!r} is not a text: {error.messages[0]}") from None
    return text


def user_name() -> str:
    """The name of the process's account; empty if it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`, which raises `ArgumentTypeError` for anything else."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20) or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high:,}")
        return int(text)

    return parse
