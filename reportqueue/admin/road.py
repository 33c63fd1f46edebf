"""A row's road as a picture: from when it was due to its end, with the time that each part took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.template.loader import render_to_string
from django.utils.translation import gettext

from reportqueue.admin import formats
from reportqueue.models import ReportQueue
from reportqueue.states import FINAL

WIDTH, HEIGHT = 720, 28
"""Of the drawing, in its own units: it is as wide as the page allows."""
SMALLEST = 6
"""A part is at least so wide, however short it was."""


@dataclass(frozen=True)
class Part:
    """The part of the road that ends with an event."""

    kind: str
    """The event: `claimed`, `finished` and so on; `now` for a row that is on its way."""
    label: str
    took: str
    x: float
    width: float


def events(row: ReportQueue, now: datetime) -> list[tuple[str, str, datetime]]:
    """What has happened to the row, in the order in which it did: a word, a text for people, and when.

    Instants of an earlier claim, before a requeue or another try, are left out: the row has only those of its last.
    """
    known = [
        ("due", gettext("due"), row.trigger_time),
        ("queued", gettext("queued"), row.created_at),
        ("available", gettext("available"), row.available_at),
        ("claimed", gettext("claimed"), row.claimed_at),
        ("dispatched", gettext("launched"), row.dispatched_at),
        ("started", gettext("started"), row.started_at),
        ("finished", gettext("finished"), row.finished_at),
    ]
    found = [(kind, label, instant) for kind, label, instant in known if instant is not None and instant <= now]
    if row.status not in FINAL:
        found.append(("now", gettext("now"), now))
    return sorted(found, key=lambda one: one[2])


def parts(row: ReportQueue, now: datetime) -> list[Part]:
    """The parts between the events; empty for a row to which nothing has happened yet."""
    along = [
        (kind, label, instant - before)
        for (_, _, before), (kind, label, instant) in pairwise(events(row, now))
        if instant > before
    ]
    total = sum(length.total_seconds() for _, _, length in along)
    if not total:
        return []
    free = WIDTH - SMALLEST * len(along)
    found, x = [], 0.0
    for kind, label, length in along:
        width = SMALLEST + free * length.total_seconds() / total
        found.append(Part(kind, label, formats.duration(length), round(x, 1), round(width, 1)))
        x += width
    return found


def picture(row: ReportQueue, now: datetime) -> str:
    """The picture, with the same as a list."""
    found = parts(row, now)
    if not found:
        return formats.EMPTY
    return render_to_string("admin/reportqueue/road.html", {"parts": found, "width": WIDTH, "height": HEIGHT})


def timeline(row: ReportQueue) -> str:
    """Every instant by the viewer's clock, in UTC, by the schedule's clock, and relative to when it was due."""
    zones = formats.clocks(row.schedule.timezone if row.schedule else "UTC")
    claimed = (
        gettext("claimed by %(consumer)s") % {"consumer": row.claimed_by} if row.claimed_by else gettext("claimed")
    )
    instants = [
        (gettext("due"), row.trigger_time),
        (gettext("enqueued"), row.created_at),
        (gettext("available"), row.available_at),
        (claimed, row.claimed_at),
        (gettext("dispatched"), row.dispatched_at),
        (gettext("started"), row.started_at),
        (gettext("finished"), row.finished_at),
        (gettext("lease until"), row.lease_expires_at),
    ]
    lines = [
        (name, formats.by_clocks(instant, zones), formats.offset(instant - row.trigger_time))
        for name, instant in instants
        if instant is not None
    ]
    return render_to_string("admin/reportqueue/timeline.html", {"lines": lines, "zones": zones})


def neighbours(row: ReportQueue) -> tuple[ReportQueue | None, ReportQueue | None]:
    """The rows due before and after it of the same schedule; without one, of the same report and modifier."""
    same: dict[str, Any] = {"report_id": row.report_id, "modifier_id": row.modifier_id}
    others = ReportQueue.objects.filter(**({"schedule": row.schedule_id} if row.schedule_id else same))
    # By the time alone, as the indexes are: with the id as well, PostgreSQL may sort all of them.
    before = others.filter(trigger_time__lt=row.trigger_time).order_by("-trigger_time")
    after = others.filter(trigger_time__gt=row.trigger_time).order_by("trigger_time")
    return before.first(), after.first()
