"""Paths in a JSON payload, written as `data.order.lines.0.id`: a webhook's parameters are read from them.

A name that contains a dot has a backslash before it: `labels.app\\.name`. A backslash is written as two.
"""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError

WHOLE = "$"
MAX_PATH_LENGTH = 200
_STEP = re.compile(r"(?:[^.\\]|\\[.\\])+")
_PATH = re.compile(rf"{_STEP.pattern}(?:\.{_STEP.pattern})*", re.DOTALL)
_ESCAPED = re.compile(r"\\([.\\])")


class NotThere(LookupError):
    """The payload has nothing at that path; `str()` names the first missing step."""


def validate_path(path: str) -> None:
    """Refuse a path that is too long, has empty steps, or has a backslash before anything but a dot or a backslash."""
    if path == WHOLE:
        return
    if len(path) > MAX_PATH_LENGTH or "\x00" in path or not _PATH.fullmatch(path):
        raise ValidationError(
            f"{path[:100]} is not a path: names and places of lists, with dots between them; or $ for all of it. A dot "
            r"inside a name is written as \., and a backslash as \\.",
            code="path",
        )


def at(payload: Any, path: str) -> Any:
    """The value at a path. Raises `NotThere`."""
    if path == WHOLE:
        return payload
    found, walked = payload, []
    for written in _STEP.findall(path):
        walked.append(written)
        step = _ESCAPED.sub(r"\1", written)
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and len(step) < 7 and int(step) < len(found):
            found = found[int(step)]
        else:
            raise NotThere(f"The payload has no {'.'.join(walked)}.")
    return found
