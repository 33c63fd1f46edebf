"""JSON values as JSON has them: 1 is 1.0 and is not true, and the order of an object's names does not matter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MAX_QUOTED = 200
"""Characters of a value that a message quotes."""


def canonical(value: Any) -> str:
    """A text that two values share if they are the same JSON value, and only then."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        # By the digits that are written and stored: 1e23 is 10**23, though no float is.
        return str(int(Decimal(repr(value)))) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    return "[" + ",".join(map(canonical, value)) + "]"


def quoted(value: Any) -> str:
    """The value as Python writes it: at most `MAX_QUOTED` characters and an ellipsis. The rest is not looked at."""
    parts: list[str] = []
    fits = _write(value, parts, MAX_QUOTED) >= 0
    text = "".join(parts)
    return text if fits else f"{text[:MAX_QUOTED]}…"


def _write(value: Any, parts: list[str], left: int) -> int:
    """Add the parts of the text; returns how many characters are left. Once it is less than none, nothing is added."""
    if left < 0:
        return left
    if isinstance(value, Mapping):
        text = "}"
        parts.append("{")
        left -= 1
        for place, name in enumerate(value):
            if left < 0:
                return left
            parts.append(f"{', ' if place else ''}{name!r:.{MAX_QUOTED}}: ")
            left = _write(value[name], parts, left - len(parts[-1]))
    elif isinstance(value, list | tuple):
        text = "]"
        parts.append("[")
        left -= 1
        for place, one in enumerate(value):
            if left < 0:
                return left
            parts.append(", " if place else "")
            left = _write(one, parts, left - len(parts[-1]))
    else:
        text = repr(value[: MAX_QUOTED + 1]) if isinstance(value, str) else repr(value)
    parts.append(text)
    return left - len(text)
