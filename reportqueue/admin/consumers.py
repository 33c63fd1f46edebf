"""Warns on a page of pauses, of consumers that are silent or two, and of routes that nobody asks for."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest

from reportqueue import queue, triggers

STANDING = "rq-standing"
"""The tag of a warning that holds for as long as its reason: a live page refreshes it."""


def warn_of_consumers(request: HttpRequest) -> None:
    """Show a warning above the page for each pattern whose consumers are silent, and each consumer that is two.

    Also for each route with due rows that nobody asks for.
    """
    if request.method == "GET":
        for one in (*triggers.silent(), *triggers.twice(), *triggers.unasked()):
            messages.warning(request, str(one), STANDING)


def warn_of_pauses(request: HttpRequest) -> None:
    """Show a warning above the page for each pause."""
    if request.method == "GET":
        for pause in queue.paused():
            messages.warning(request, f"{pause}.", STANDING)
