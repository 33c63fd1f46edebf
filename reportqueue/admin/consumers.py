"""Warns on a page of consumers that are expected and silent, or that claim from two places."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest

from reportqueue import triggers


def warn_of_consumers(request: HttpRequest) -> None:
    """Show a warning above the page for each pattern whose consumers are silent, and each consumer that is two."""
    if request.method == "GET":
        for one in (*triggers.silent(), *triggers.twice()):
            messages.warning(request, str(one))
