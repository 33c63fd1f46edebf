"""Reading params: each function checks one JSON value and returns it typed, or raises InvalidParams.

Values are taken literally: "3" is not 3 and true is not 1. A schedule that is wrong should say so at its
first run, instead of making another report than was asked for.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from datetime import date
from typing import TypeGuard

from .errors import InvalidParams


def refuse_unknown(params: Mapping[str, object], known: Collection[str]) -> None:
    """Raise InvalidParams if `params` has a name that is not in `known`."""
    for name in params:
        if name not in known:
            # Shortened, like the values below: the message ends up in a database column and on a page.
            raise InvalidParams(f"unknown parameter {reprlib.repr(name)}; accepted: {', '.join(known)}")


def choice(name: str, value: object, options: Collection[str]) -> str:
    """One of `options`."""
    if isinstance(value, str) and value in options:
        return value
    raise _refused(name, f"one of {', '.join(options)}", value)


def integer(name: str, value: object, first: int, last: int) -> int:
    """A whole number from `first` to `last`, both included."""
    if _is_within(value, first, last):
        return value
    raise _refused(name, f"a whole number from {first} to {last}", value)


def integer_range(name: str, value: object, first: int, last: int) -> tuple[int, int]:
    """A pair [a, b] of whole numbers with first <= a <= b <= last."""
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        if _is_within(low, first, last) and _is_within(high, low, last):
            return low, high
    accepted = f"two whole numbers [from, to] from {first} to {last}, the first not above the second"
    raise _refused(name, accepted, value)


def iso_date(name: str, value: object, last: date) -> date:
    """A date written as YYYY-MM-DD, not after `last`."""
    if isinstance(value, str) and len(value) == len("YYYY-MM-DD"):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            pass
        else:
            if day <= last:
                return day
    raise _refused(name, f"a date YYYY-MM-DD, at the latest {last}", value)


def _is_within(value: object, first: int, last: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and first <= value <= last


def _refused(name: str, accepted: str, value: object) -> InvalidParams:
    return InvalidParams(f"{name} must be {accepted}; got {reprlib.repr(value)}")
