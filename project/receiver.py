"""The demo's receiver of webhooks, as another system would have one: it checks signatures, and writes events down."""

from __future__ import annotations

import json
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from standardwebhooks import Webhook

from project.environment import DATA_DIR, variable
from reportqueue import outbox
from reportqueue.models import WebhookSubscription

FILE = DATA_DIR / "logs" / "webhooks.jsonl"
MAX_FILE_BYTES = 1_000_000
"""The demo's file stays small: beyond this it begins anew."""


def url() -> str:
    """The address of this receiver in the demo."""
    return f"{variable('REPORTQUEUE_URL', 'http://127.0.0.1:8000')}/demo-webhooks/"


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """204 for what the demo's own subscription has signed, otherwise 401."""
    one = WebhookSubscription.objects.of_people().filter(url=url()).first()
    try:
        # Another system has its secret from the page that showed it once.
        Webhook(outbox.secret(one) if one else "").verify(request.body, dict(request.headers))
    except Exception:  # the library raises whatever its decoding raises
        return HttpResponse(status=401)
    _write(FILE, json.loads(request.body))
    return HttpResponse(status=204)


def _write(path: Path, event: object) -> None:
    if path.exists() and path.stat().st_size > MAX_FILE_BYTES:
        path.unlink()
    with path.open("a") as file:
        file.write(json.dumps(event) + "\n")
