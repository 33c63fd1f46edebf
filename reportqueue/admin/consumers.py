"""Warns on a page that consumers are expected and silent."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest

from reportqueue import triggers


def warn_of_silence(request: HttpRequest) -> None:
    """Show a warning above the page for each pattern whose consumers are expected and silent."""
    if request.method == "GET":
        for silence in triggers.silent():
            messages.warning(request, str(silence))
