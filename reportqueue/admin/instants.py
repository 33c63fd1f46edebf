"""Inputs of instants are read and shown in UTC, whatever zone the other instants of the page are in.

In a zone whose clock is changed, an instant of the hour that comes twice could not be typed, nor saved again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from functools import wraps
from typing import ParamSpec

from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse
from django.utils import timezone

P = ParamSpec("P")


def in_utc(view: Callable[P, HttpResponse]) -> Callable[P, HttpResponse]:
    """Run a view with UTC as Django's current time zone, and render its page within it."""

    @wraps(view)
    def within(*args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        with timezone.override(UTC):
            response = view(*args, **kwargs)
            # The page has to say the same: its inputs show instants, and the buttons beside them fill in the time.
            return response.render() if isinstance(response, SimpleTemplateResponse) else response

    return within
