"""The formats of JSON Schema that are checked. They are the same everywhere, whatever packages are installed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import date

from reportqueue.linear_regex import Regex, tried

_DATE = Regex(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
_UUID = Regex(r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")


def _is_date(text: str) -> bool:
    if not _DATE.found_in(text):
        return False
    date.fromisoformat(text)
    return True


def _is_email(text: str) -> bool:
    return "@" in text


def _is_ipv4(text: str) -> bool:
    ipaddress.IPv4Address(text)
    return True


def _is_ipv6(text: str) -> bool:
    return not ipaddress.IPv6Address(text).scope_id


def _is_regex(text: str) -> bool:
    return tried(text)[0]


FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _is_date,
    "email": _is_email,
    "idn-email": _is_email,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "regex": _is_regex,
    "uuid": _UUID.found_in,
}
"""Whether a text has the format; a `ValueError` says no, too. Other formats are notes for people."""


def steps(name: str, text: str) -> int:
    """What it costs at most to look whether a text has the format of this name, in steps of an evaluation."""
    return 1 + len(text) // 50 + (tried(text)[1] if name == "regex" else 0)


def fits(name: str, text: str) -> bool:
    """Whether the text has the format of this name. It has each format that is not checked."""
    check = FORMATS.get(name)
    try:
        return check is None or check(text)
    except ValueError:
        return False
