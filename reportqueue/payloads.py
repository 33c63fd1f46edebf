"""Paths in a JSON payload, written as `data.order.lines.0.id`: a webhook's parameters are read from them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError

WHOLE = "$"
MAX_PATH_LENGTH = 200


class NotThere(LookupError):
    """The payload has nothing at that path; `str()` names the first missing step."""


def validate_path(path: str) -> None:
    """Refuse a path that is too long or has empty steps."""
    if path == WHOLE:
        return
    if not path or len(path) > MAX_PATH_LENGTH or "\x00" in path or not all(path.split(".")):
        raise ValidationError(
            f"{path[:100]!r} is not a path: names and places of lists, with dots between them; or $ for all of it.",
            code="path",
        )


def at(payload: Any, path: str) -> Any:
    """The value at a path. Raises `NotThere`."""
    if path == WHOLE:
        return payload
    found, walked = payload, []
    for step in path.split("."):
        walked.append(step)
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and len(step) < 7 and int(step) < len(found):
            found = found[int(step)]
        else:
            raise NotThere(f"The payload has no {'.'.join(walked)}.")
    return found
