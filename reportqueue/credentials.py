"""What an API token looks like: `rq_`, by which scanners for secrets know it, its identifier, `_`, and its secret."""

from __future__ import annotations

import hashlib
import re

from django.utils.crypto import get_random_string

PREFIX = "rq_"
IDENTIFIER_LENGTH = 12
_SECRET_LENGTH = 43
"""Letters and digits: 256 bits."""
_FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{IDENTIFIER_LENGTH}}})_[0-9A-Za-z]{{{_SECRET_LENGTH}}}", re.ASCII)


def new_key() -> str:
    """A new random token, as its owner sends it."""
    return f"{PREFIX}{get_random_string(IDENTIFIER_LENGTH)}_{get_random_string(_SECRET_LENGTH)}"


def identifier_of(key: str) -> str | None:
    """The public part of a token, by which it is found; None for a text that is no token."""
    match = _FORM.fullmatch(key)
    return match[1] if match else None


def digest(key: str) -> str:
    """The SHA-256 of a token, in hexadecimal. A token is random, so it needs neither salt nor a slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()
