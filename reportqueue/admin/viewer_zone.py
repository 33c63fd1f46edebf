"""The time zone of the person who reads a page: the one that a cookie keeps, or else the project's current one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse
from django.utils import timezone

import reportcron

COOKIE = "reportqueue_zone"
"""Remembers the zone that a person has chosen."""
COOKIE_SECONDS = 365 * 86_400
UTC_NAMES = {"UTC", "UCT", "Universal", "Zulu", "Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu"}
"""Names of UTC. They are all shown as `UTC`: its instants need nothing beside them."""

_found_for = "reportqueue_viewer_zone"
"""The attribute of a request that keeps its zone: a view may change Django's current time zone while it runs."""
_current: ContextVar[str] = ContextVar("reportqueue_viewer_zone", default="UTC")


def current() -> str:
    """The zone in which instants are to be shown now: UTC outside of the pages."""
    return _current.get()


@contextmanager
def shown_in(zone: str) -> Iterator[None]:
    """Show instants in this zone."""
    token = _current.set(zone)
    try:
        yield
    finally:
        _current.reset(token)


def known(zone: str) -> str:
    """The zone's name, which is `UTC` for each name of UTC; empty if this machine does not know the zone."""
    if zone in UTC_NAMES:
        return "UTC"
    return zone if zone in reportcron.zone_names() else ""


def of(request: HttpRequest) -> str:
    """The zone of the request's person. An unknown one in the cookie is ignored; UTC if Django's zone has no name."""
    found: str | None = getattr(request, _found_for, None)
    if found is None:
        found = known(request.COOKIES.get(COOKIE, "")) or known(timezone.get_current_timezone_name()) or "UTC"
        setattr(request, _found_for, found)
    return found


def remember(request: HttpRequest, response: HttpResponse, zone: str) -> None:
    """Keep the person's choice; an empty one forgets it."""
    if not zone:
        response.delete_cookie(COOKIE, samesite="Lax")
        return
    response.set_cookie(COOKIE, zone, COOKIE_SECONDS, secure=request.is_secure(), httponly=True, samesite="Lax")


def with_zone(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view, and the rendering of its page, in the zone of its person."""

    @wraps(view)
    def within(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with shown_in(of(request)):
            response = view(request, *args, **kwargs)
            # A list reads its cells while it is rendered.
            return response.render() if isinstance(response, SimpleTemplateResponse) else response

    return within
