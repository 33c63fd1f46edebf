"""`/metrics`: who may read it, and what it answers when the database is away."""

from __future__ import annotations

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from reportqueue import health
from reportqueue.conf import conf
from reportqueue.metrics.families import Collector
from reportqueue.metrics.readings import Readings, read
from reportqueue.metrics.shared import Busy, Shared

CACHE_SECONDS = 5
"""So long a process answers with what it has read."""
WAIT_SECONDS = 3
"""How long a call waits for another one that reads at the moment."""
CLOSED = (
    "Nobody may read the metrics yet: set REPORTQUEUE['METRICS_TOKEN'], and give it to Prometheus as a bearer token; "
    "or set REPORTQUEUE['METRICS_OPEN'] if only Prometheus reaches this address."
)
UNKNOWN = "Send the header `Authorization: Bearer ...` with the token in REPORTQUEUE['METRICS_TOKEN']."
BUSY = "Another call reads the metrics, and the database is slow."
readings: Shared[Readings] = Shared(lambda: read(health.PROBE_SECONDS), CACHE_SECONDS, WAIT_SECONDS)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus reads, as text or OpenMetrics; 401 or 403 for others, 503 with the reason without a database."""
    if not conf().metrics_open:
        if not (token := conf().metrics_token):
            return _text(CLOSED, 403)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not constant_time_compare(given.strip(), token):
            refused = _text(UNKNOWN, 401)
            refused["WWW-Authenticate"] = 'Bearer realm="metrics"'
            return refused
    try:
        found = readings.get()
    except Busy:
        return _text(BUSY, 503)
    except Error as error:
        return _text(health.reason(error), 503)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(found))
    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    except (TypeError, ValueError):  # the library fails at a version that is none
        encode, content_type = choose_encoder("")
    return HttpResponse(encode(registry), content_type=content_type)


def _text(text: str, status: int) -> HttpResponse:
    return HttpResponse(f"{text}\n", content_type="text/plain; charset=utf-8", status=status)
