"""Warns on a page of pauses, of consumers that are silent or two, and of routes that nobody asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.template.response import SimpleTemplateResponse

from reportqueue import queue, triggers
from reportqueue.admin import formats
from reportqueue.admin.own_messages import keep_messages

View = Callable[..., Any]
STANDING = "rq-standing"
"""The tag of a warning that holds for as long as its reason: a live page refreshes it."""
PAUSED = f"{STANDING} rq-pause"
"""Marks the messages of pauses."""


def warn_of_consumers(request: HttpRequest) -> None:
    """Show a warning above the page for each pattern whose consumers are silent, and each consumer that is two.

    Also for each route with due rows that nobody asks for.
    """
    if request.method == "GET":
        for one in triggers.troubles():
            messages.warning(request, formats.sentence(one), STANDING)


def warn_of_pauses(request: HttpRequest) -> None:
    """Show a warning above the page for each pause."""
    for pause in queue.paused():
        messages.warning(request, formats.sentence(f"{pause}."), PAUSED)


def with_pauses(view: View, has_permission: Callable[[HttpRequest], bool]) -> View:
    """A view of the admin whose page has a warning for each pause."""

    @wraps(view)
    def warning(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not has_permission(request):  # the view sends this person to the page with the log-in
            return view(request, *args, **kwargs)
        keep_messages(request)
        # Before the view: it may render its page itself.
        warn_of_pauses(request)
        response = view(request, *args, **kwargs)
        if not _shows_messages(request, response):
            _keep_others(request)
        return response

    return warning


def _shows_messages(request: HttpRequest, response: Any) -> bool:
    if isinstance(response, SimpleTemplateResponse) and not response.is_rendered:
        return True
    return bool(getattr(messages.get_messages(request), "used", False))


def _keep_others(request: HttpRequest) -> None:
    """The answer was no page: the next page would show the warnings once more. The other messages stay for it."""
    for one in list(messages.get_messages(request)):
        if one.extra_tags != PAUSED:
            messages.add_message(request, one.level, one.message, one.extra_tags)
