"""Durations as a text for people: in the admin, in a terminal, in reasons."""

from __future__ import annotations

from datetime import timedelta


def duration(length: timedelta) -> str:
    """Two units at most, for people: `0.4 s`, `2 min 5 s`, `3 h`, `2 d 4 h`."""
    seconds = abs(length.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = int(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def seconds(count: float) -> str:
    """A number of seconds: `6 h (21,600 s)`, or `45 s` if the two would say the same."""
    short, exact = duration(timedelta(seconds=count)), f"{count:,} s"
    return short if short == exact else f"{short} ({exact})"
