"""Read a request's body: JSON of bounded size and depth. No content of a body causes a server error."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from reportqueue import bounds
from reportqueue.api import problems
from reportqueue.conf import conf


# Not DRF's JSONParser: with it, Django's limit for forms applies to the body, and the project's settings decide whether
# NaN is JSON.
class BoundedJSONParser(BaseParser):
    """JSON as RFC 8259 has it, in a Unicode encoding, of at most `REPORTQUEUE["MAX_BODY_BYTES"]`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Raises `BodyTooLarge` (413) or `ParseError` (400)."""
        return parsed(read_body(stream, parser_context["request"].META.get("CONTENT_LENGTH", "")))


def read_body(stream: Any, stated: str) -> bytes:
    """The body's bytes; `stated` is their number by the request's header. Too many are refused before they are read.

    Raises `BodyTooLarge` (413).
    """
    limit = conf().max_body_bytes
    too_many = stated.isdigit() and int(stated[:20]) > limit
    body: bytes = b"" if too_many else stream.read(limit + 1)
    if too_many or len(body) > limit:
        raise problems.BodyTooLarge(f"The body may have at most {limit:,} bytes.")
    return body


def parsed(body: bytes) -> Any:
    """The JSON of a body. Raises `ParseError` (400)."""
    try:
        return bounds.parse_json(body)
    except ValidationError as error:
        raise ParseError(error.messages[0]) from None
