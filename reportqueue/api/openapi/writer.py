"""Writes `openapi.json`, by drf-spectacular: `python -m tools.openapi`."""

from __future__ import annotations

import json
from typing import Any

from django.utils import translation
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.validation import validate_schema

from reportqueue import __version__
from reportqueue.api.openapi.document import PREFIX
from reportqueue.api.openapi.inspector import OwnRegistry

DESCRIPTION = """\
Which reports are due: a queue and schedules in PostgreSQL.

- Requests and answers are JSON. Times in requests are ISO 8601 with an offset; times in answers are UTC with `Z`.
- Unknown fields and query parameters are refused.
- Lists have pages: `next` and `previous` are addresses or null.
- A refusal is a problem document (RFC 9457). A 503 has `Retry-After`: repeat the call.
- A verb of the queue that is repeated because its answer was lost gets the first answer.

`docs/api.md` says what the calls promise.
"""
TAGS = {
    "Queue": "Rows: list, enqueue, cancel, requeue.",
    "Pauses": "Pause the queue, a route or a report.",
    "Consumers": "Claim rows.",
    "Runs": "Make reports.",
    "Bulk actions": "Requeue or cancel all rows that match a filter, in the background.",
    "Catalogue": "What a report is called, what it may be asked, and how much of it is made at once.",
    "Schedules": "When reports are due.",
    "Events": "Signed webhooks to other systems: who gets them, and what became of them.",
    "Sensors": "For clients that evaluate the schedules themselves, or poll.",
    "Schema": "This document.",
    "Webhooks": "For other systems, which sign what they send.",
}
SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "reportqueue",
    "DESCRIPTION": DESCRIPTION,
    "VERSION": __version__,
    "LICENSE": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    "SERVERS": [{"url": PREFIX}],
    "TAGS": [{"name": name, "description": text} for name, text in TAGS.items()],
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": True,
    "POSTPROCESSING_HOOKS": [],
    "SCHEMA_PATH_PREFIX": "",
    "AUTHENTICATION_WHITELIST": [
        "reportqueue.api.authentication.ApiTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "SORT_OPERATIONS": False,
    "SORT_OPERATION_PARAMETERS": False,
}


class Warned(Exception):
    """drf-spectacular does not know what to write."""


def written() -> str:
    """The text of `openapi.json`. Raises `Warned` with the warnings of drf-spectacular."""
    with translation.override("en"), patched_settings(SETTINGS):
        generator = SchemaGenerator(urlconf="reportqueue.api.urls")
        generator.registry = OwnRegistry()
        found = generator.get_schema(request=None, public=True)
    if GENERATOR_STATS:
        raise Warned("\n".join([*GENERATOR_STATS._warn_cache, *GENERATOR_STATS._error_cache]))
    validate_schema(found)
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
