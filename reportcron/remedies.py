"""What to write instead of what other cron implementations accept, for the messages of a refusal."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ZONE = re.compile(r"(?:CRON_)?TZ=(\S*)", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#")
_BLANKS = re.compile(r"\s*([,/-])\s*")
_EVERY = re.compile(r"@every\s+((?:[0-9]{1,9}[hms])+)", re.IGNORECASE)
_SECONDS = {"h": 3_600, "m": 60, "s": 1}
_COMMAND = re.compile(r"[A-Za-z_./%-]{4,}|.*/.*[a-z]")
_QUOTES = frozenset("'\"`")
_SHOWN = 60
"""Characters of the given text that a remedy repeats."""


def remedy_for_expression(expression: str, wanted: int) -> str:
    """The remedy for an expression that has not the `wanted` number of fields; empty if none is known."""
    text = expression.strip()
    if (zone := _ZONE.match(text)) is not None:
        named = f", {zone[1][:_SHOWN]}," if zone[1] else ""
        return f"leave {zone[0][:_SHOWN]!r} out, and give the time zone{named} in the schedule's own field"
    if (comment := _COMMENT.search(text)) is not None:
        return f"leave the comment out, from {text[comment.start() :].strip()[:_SHOWN]!r} on"
    if text[0] in _QUOTES:
        return "leave the quotation marks out"
    if "\n" in text:
        return "one schedule has one expression: make a schedule for each line"
    fields = text.split()
    if any(_COMMAND.match(field) for field in fields[wanted:]):
        return "leave out what follows the first five: a schedule has no user and no command"
    joined = _BLANKS.sub(r"\1", text)
    if len(joined.split()) == wanted:
        return f"write lists, ranges and steps without blanks: {joined[:_SHOWN]!r}"
    if len(fields) > wanted:
        return "leave out seconds, which come first elsewhere, and a year"
    return ""


def remedy_for_name(name: str) -> str:
    """The remedy for an unknown name, such as `@every 1h`; empty if none is known."""
    if (every := _EVERY.fullmatch(name)) is not None:
        seconds = sum(int(number) * _SECONDS[unit.lower()] for number, unit in re.findall(r"(\d+)([hmsHMS])", every[1]))
        return f"leave the expression empty, and give an interval of {seconds} seconds"
    if name.lower().startswith("@every"):
        return "leave the expression empty, and give an interval in seconds"
    if name.lower() == "@reboot":
        return "a schedule needs a time: let your own code enqueue the report when it starts"
    return ""


def remedy_for_item(item: str, names: Sequence[str]) -> str:
    """The remedy for an item of a field, whose `names` are given; empty if none is known."""
    if set(item) & _QUOTES:
        return "leave the quotation marks out"
    if item == "?":
        return "write * instead"
    for word in re.findall(r"[A-Za-z]{4,}", item):
        if word[:3].upper() in names:
            return f"names have three letters, {word[:3].upper()}"
    if item[:1].upper() in ("H", "R") or "~" in item:
        return "for a random time choose one yourself, or give the schedule a jitter"
    if re.fullmatch(r"(?:L|LW|L?[0-9]+L?W?|[A-Za-z]{3}L|\w+#[0-9L])", item, re.IGNORECASE) and not item.isdigit():
        return "L, W and # are not known: name the days, or let a calendar close the others"
    return ""
