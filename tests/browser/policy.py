"""What the web app of the browser tests does beside its own work."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest
from django.http.response import HttpResponseBase

POLICY = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"


class PolicyMiddleware:
    """Answers with a policy that allows no inline script and no inline style.

    It also forgets the ids of content types: after each test, the database is emptied and gets them anew.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer, with the policy."""
        ContentType.objects.clear_cache()
        response = self._get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response
