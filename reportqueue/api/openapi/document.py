"""The document that the app serves."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("openapi.json")
PREFIX = "/api"
"""Where the file says that the API is. An installation says where it has it."""


@cache
def _read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_bytes())
    return found


def served(prefix: str) -> dict[str, Any]:
    """The description of the API at this address."""
    return {**_read(), "servers": [{"url": prefix}]}
