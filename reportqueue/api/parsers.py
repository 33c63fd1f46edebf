"""Read a request's body: JSON of bounded size and depth. No content of a body causes a server error."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.utils import json

from reportqueue.api import problems
from reportqueue.conf import conf

MAX_DEPTH = 100
"""How deep objects and lists may be nested. Deeper JSON exhausts the stack of code that copies or stores it."""


# Not DRF's JSONParser: with it, Django's limit for forms applies to the body, and the project's settings decide whether
# NaN is JSON.
class BoundedJSONParser(BaseParser):
    """JSON as RFC 8259 has it, in a Unicode encoding, of at most `REPORTQUEUE["MAX_BODY_BYTES"]`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Raises `BodyTooLarge` (413) or `ParseError` (400)."""
        return parsed(read_body(stream))


def read_body(stream: Any) -> bytes:
    """The body's bytes. Raises `BodyTooLarge` (413)."""
    limit = conf().max_body_bytes
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise problems.BodyTooLarge(f"The body may have at most {limit:,} bytes.")
    return body


def parsed(body: bytes) -> Any:
    """The JSON of a body. Raises `ParseError` (400)."""
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
    """How deep objects and lists are nested; counted level by level, without recursion."""
    depth, level = 0, [data]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth
