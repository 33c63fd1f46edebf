"""Metrics for Prometheus: `path("", include("reportqueue.metrics"))`. They need the extra `reportqueue[metrics]`.

Everything is read from the database when it is asked for, so all processes of the web app answer alike, and a restart
of one loses nothing. Without the library prometheus-client there is no such address, and `check` says so.
"""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import path

from reportqueue.health import View, probe

PROBES: dict[str, View] = {}
if find_spec("prometheus_client") is not None:
    from reportqueue.metrics.page import metrics

    PROBES = {"metrics": probe(metrics)}
urlpatterns = [path(name, view, name=name) for name, view in PROBES.items()]
