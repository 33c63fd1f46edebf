"""The demo project's settings from the environment. A running demo writes the same values to `.data/demo.json`.

So `manage.py` works beside the demo without any variable, and a deployment sets variables.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("REPORTQUEUE_DATA_DIR") or BASE_DIR / ".data").resolve()
DEMO_FILE = DATA_DIR / "demo.json"


def variable(name: str, default: str) -> str:
    """The environment's value, else the demo's, else the default."""
    if name in os.environ:
        return os.environ[name]
    try:
        demo: dict[str, str] = json.loads(DEMO_FILE.read_text())
    except (OSError, ValueError):
        return default
    return demo.get(name, default)


def options(name: str) -> dict[str, Any]:
    """The options that a variable has as a JSON object. Raises `ValueError` with its name for anything else."""
    text = variable(name, "{}")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f'{name} must be a JSON object, such as {{"bucket_name": "reports"}}; it is {text!r}.')
    return found


def database(url: str) -> dict[str, Any]:
    """Django's settings for a `postgresql://user:password@host:port/name?option=value` URL.

    A `host` option names a directory: a Unix socket. Raises `ValueError` for another scheme or a URL without a name.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or len(parts.path) < 2:
        raise ValueError("DATABASE_URL must look like postgresql://user:password@host:5432/name")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
    }
