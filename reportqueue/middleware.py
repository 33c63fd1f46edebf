"""Middleware for the project's settings."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve

from reportqueue import health, metrics

PROBES = health.PROBES | metrics.PROBES


class ProbeMiddleware:
    """Answers the probes of `reportqueue.health` and `reportqueue.metrics` for any host name, and over plain HTTP.

    Put it first in `MIDDLEWARE`. A probe of Kubernetes, of a load balancer or of Prometheus names an address that
    changes, which cannot be in `ALLOWED_HOSTS`, and comes from behind the proxy that ends TLS. The answers contain
    nothing of the request.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The probe's answer, or that of the rest of the project."""
        if request.path_info.rpartition("/")[2] in PROBES:
            try:
                found = resolve(request.path_info)
            except Resolver404:
                found = None
            if found is not None and found.func in PROBES.values():
                answer: HttpResponseBase = found.func(request)
                return answer
        return self._get_response(request)
