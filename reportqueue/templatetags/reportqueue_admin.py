"""What templates of the admin fetch themselves: Django's views of them do not know this app."""

from __future__ import annotations

from typing import Any

from django import template

from reportqueue.admin import overview_page

register = template.Library()


@register.simple_tag(takes_context=True)
def reportqueue_overview(context: dict[str, Any]) -> dict[str, Any] | None:
    """What the overview shows; None for a person who may not see the queue."""
    return overview_page.context(context["request"])
