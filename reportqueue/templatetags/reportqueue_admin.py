"""What templates of the admin fetch themselves: Django's views of them do not know this app."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template

from reportqueue.admin import formats, overview_page, viewer_zone, zone_chooser

register = template.Library()


@register.simple_tag(takes_context=True)
def reportqueue_overview(context: dict[str, Any]) -> dict[str, Any] | None:
    """What the overview shows; None for a person who may not see the queue."""
    return overview_page.context(context["request"])


@register.inclusion_tag("admin/reportqueue/times.html", takes_context=True)
def reportqueue_times(context: dict[str, Any], page_zone: str = "", *, live: bool = False) -> dict[str, Any]:
    """The line that says in which zone a page shows instants, with a link to change it.

    `page_zone`: that of a page which has one of its own. `live`: of a live page whose context does not say so.
    """
    request = context["request"]
    zone = viewer_zone.of(request)
    own = page_zone or zone
    return {
        "zone": own,
        "elsewhere": zone if own != zone else "",
        "address": zone_chooser.address(request),
        "live": live or context.get("live"),
    }


@register.filter
def reportqueue_instant(moment: datetime) -> str:
    """An instant by the viewer's clock, and below it in UTC."""
    return formats.instant(moment)
