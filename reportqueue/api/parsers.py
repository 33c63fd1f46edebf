"""How a request's body is read: JSON alone, of bounded size and depth, and never a server error for what it holds."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.utils import json

from reportqueue.api import problems
from reportqueue.conf import conf

MAX_DEPTH = 100
"""Objects and lists inside each other. What is deeper exhausts the stack of whoever copies, stores or shows it."""


# Not DRF's JSONParser: for that, DRF reads the body through Django's limit for forms, and the project's settings
# decide whether NaN is JSON.
class BoundedJSONParser(BaseParser):
    """JSON as RFC 8259 has it, in a Unicode encoding, of at most `REPORTQUEUE["MAX_BODY_BYTES"]`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Raises `BodyTooLarge` (413) or `ParseError` (400)."""
        return parsed(read_body(stream))


def read_body(stream: Any) -> bytes:
    """The bytes as they came. Raises `BodyTooLarge` (413)."""
    limit = conf().max_body_bytes
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise problems.BodyTooLarge(f"The body may have at most {limit:,} bytes.")
    return body


def parsed(body: bytes) -> Any:
    """The JSON in them. Raises `ParseError` (400)."""
    try:
        data = json.loads(body)  # type: ignore[arg-type]  # bytes too: it finds out their encoding
    except RecursionError:
        raise ParseError("The JSON is nested too deeply.") from None
    except ValueError as error:
        raise ParseError(f"The body is not JSON: {error}.") from None
    if _depth(data) > MAX_DEPTH:
        raise ParseError(f"The JSON is nested too deeply: objects and lists may be {MAX_DEPTH} inside each other.")
    return data


def _depth(data: Any) -> int:
    """How many objects and lists lie inside each other; level by level, since recursion is what it guards."""
    depth, level = 0, [data]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth
