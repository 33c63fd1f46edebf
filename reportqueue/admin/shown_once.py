"""Secrets that are shown once: above the page that follows their making, and never again."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext


def show_once(request: HttpRequest, name: Any, secret: str) -> None:
    """Show the new secret of what has this name."""
    text = gettext("The secret of {name}, shown this once: {secret}")
    messages.warning(request, format_html(text, name=name, secret=format_html("<code>{}</code>", secret)))
