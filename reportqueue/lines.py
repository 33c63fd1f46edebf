"""Pieces of lines for people: what an error says in one line, where a text may be cut, a count that may be more."""

from __future__ import annotations


def last_line(text: str) -> str:
    """The last line of a text: of a traceback, what happened."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of a line, whole words if it can, with an ellipsis for what is left out."""
    if len(text) <= limit:
        return text
    short = text[: max(limit - 1, 0)]
    words, space, _ = short.rpartition(" ")
    # A long word, such as an address, is not given up as a whole.
    return (words if space and len(words) > limit // 2 else short).rstrip(" ,;:") + "…"


def counted(count: int, *, more: bool) -> str:
    """A count, such as `1,000 or more` if there may be `more`."""
    return f"{count:,}{' or more' if more else ''}"
