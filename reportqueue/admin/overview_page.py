"""The overview, on the admin's first page of this app: what an operator looks at first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import catalogue, database, measures, overview
from reportqueue.admin import charts, formats, live, viewer_zone
from reportqueue.admin.filters import NowFilter
from reportqueue.measures import OfReport, Span, Times
from reportqueue.models.event import LATELY
from reportqueue.outbox import OutboxTrouble
from reportqueue.overview import Consumer, History, Overview
from reportqueue.queue import FailureGroup
from reportqueue.states import Status

SPAN = "span"
"""The parameter in the address that chooses the span of time."""
SPAN_NAMES = {"1h": _("1 hour"), "6h": _("6 hours"), "24h": _("24 hours"), "7d": _("7 days")}
USUAL = "24h"
STATEMENT_SECONDS = 5
"""No statement of the page may take longer: at night, half a page is better than none."""
OLDEST_FIRST = "&o=5"
"""The queue's list, by its column of when a report was due."""
BAD = ("late", "failed")
"""Counts that should be 0."""


@dataclass(frozen=True)
class Sending:
    """What is wrong with webhooks or alerts, with the list of it."""

    text: str
    address: str
    """Empty for a person who may not see the list."""


@dataclass(frozen=True)
class Tile:
    """A number, with the list of what it counts."""

    label: str
    count: str
    below: str
    address: str
    bad: bool = False


@dataclass(frozen=True)
class Line:
    """What was measured of a report."""

    label: str
    address: str
    """Its rows; empty for further reports together."""
    total: str
    failed: str
    waited: list[str]
    """The percentiles, as texts."""
    ran: list[str]


def context(request: HttpRequest) -> dict[str, Any] | None:
    """What the page shows; None for a person who may not see the queue."""
    if not request.user.has_perm("reportqueue.view_reportqueue"):
        return None
    # The page is one of the admin site's own, which knows nothing of the viewer's zone.
    with viewer_zone.shown_in(viewer_zone.of(request)):
        return _context(request)


def _context(request: HttpRequest) -> dict[str, Any]:
    span = _span(request.GET.get(SPAN, ""))
    shown: dict[str, Any] = {
        "spans": [(one.name, SPAN_NAMES[one.name], one is span) for one in measures.SPANS],
        "span_name": SPAN_NAMES[span.name],
        "may_see_schedules": request.user.has_perm("reportqueue.view_reportschedule"),
    }
    try:
        with database.quick(STATEMENT_SECONDS, ordered=True):
            shown["live"] = live.addresses(request, getattr(request, "current_app", None))  # before the page is read
            seen = overview.overview()
            return shown | _now(request, seen) | _history(request, overview.history(span, seen.now))
    except DatabaseError as error:
        return shown | {"unavailable": str(error).strip().splitlines()[0]}


def _span(name: str) -> Span:
    known = {one.name: one for one in measures.SPANS}
    return known.get(name, known[USUAL])


def _page(request: HttpRequest, model: str, name: str = "changelist", *args: Any) -> str:
    site = getattr(request, "current_app", None)
    return reverse(f"admin:reportqueue_{model}_{name}", args=args, current_app=site)


def _now(request: HttpRequest, seen: Overview) -> dict[str, Any]:
    return {
        "now": formats.instant_text(seen.now),
        "tiles": _tiles(seen, _page(request, "reportqueue")),
        "troubles": [formats.sentence(text) for text in seen.troubles],
        "sending": [_sending(request, one, count) for one, count in seen.sending.items()],
        "pauses": [formats.sentence(f"{pause}.") for pause in seen.pauses],
        "pauses_address": _page(request, "pause"),
        "consumers": [
            (one, _routes(one), formats.instant(one.seen_at), formats.relative(one.seen_at, seen.now))
            for one in seen.consumers
        ],
        "overdue": [
            (str(one), _page(request, "reportschedule", "change", one.pk), formats.relative(one.next_run_at, seen.now))
            for one in seen.overdue
            if one.next_run_at is not None
        ],
        "failures": [_failure(one, _page(request, "reportqueue"), seen.now) for one in seen.failures.groups],
        "all_failures": _page(request, "reportqueue", "failures"),
        "agenda_address": _page(request, "reportschedule", "agenda"),
        "coming": [(formats.instant(hour, minutes=True), count) for hour, count in seen.coming],
        "coming_most": max((count for _hour, count in seen.coming), default=0),
        "schedules_address": _page(request, "reportschedule"),
    }


LISTS = {
    OutboxTrouble.DISABLED: ("webhooksubscription", "?enabled=no&problem=yes"),
    OutboxTrouble.GIVEN_UP: ("eventdelivery", "?now=given_up"),
    OutboxTrouble.ALERTS_FAIL: ("alertrule", "?enabled=yes&problem=yes"),
}
"""The list of what is wrong, by its model and its filters."""


def _sending(request: HttpRequest, one: OutboxTrouble, count: int) -> Sending:
    text = {
        OutboxTrouble.DISABLED: ngettext(
            "%(count)s webhook subscription was disabled by its failures.",
            "%(count)s webhook subscriptions were disabled by their failures.",
            count,
        ),
        OutboxTrouble.GIVEN_UP: ngettext(
            "%(count)s webhook delivery was given up in the last %(days)s days.",
            "%(count)s webhook deliveries were given up in the last %(days)s days.",
            count,
        ),
        OutboxTrouble.ALERTS_FAIL: ngettext(
            "The messages of %(count)s alert rule cannot be sent.",
            "The messages of %(count)s alert rules cannot be sent.",
            count,
        ),
    }[one] % {"count": _counted(count), "days": LATELY.days}
    model, filters = LISTS[one]
    address = _page(request, model) + filters if request.user.has_perm(f"reportqueue.view_{model}") else ""
    return Sending(text, address)


def _routes(consumer: Consumer) -> str:
    return ", ".join(consumer.routes) if consumer.routes else gettext("all routes")


def _failure(group: FailureGroup, rows: str, now: datetime) -> dict[str, Any]:
    reports = [catalogue.label(pk, name) for pk, name in group.reports]
    return {
        "title": group.title,
        "frame": group.frame,
        "count": f"{group.count:,}{'+' if group.more else ''}",
        "last": formats.relative(group.last_at, now) if group.last_at else "",
        "reports": ", ".join(reports) + (", …" if group.more_reports else ""),
        "address": f"{rows}?failure={group.fingerprint}",
    }


def _tiles(seen: Overview, rows: str) -> list[Tile]:
    since = gettext("the oldest for %(time)s")
    oldest = since % {"time": formats.duration(seen.now - seen.oldest)} if seen.oldest is not None else ""
    tiles = [
        ("waiting", gettext("Waiting"), oldest),
        ("in_flight", gettext("In flight"), gettext("claimed, launched or running")),
        ("late", gettext("Late"), gettext("their deadline is over")),
        ("retrying", gettext("Waiting for another try"), ""),
        ("failed", gettext("Failed in the last hour"), ""),
    ]
    return [
        Tile(
            label=label,
            count=_counted(seen.counts[name]),
            below=below if seen.counts[name] else "",
            address=f"{rows}?{NowFilter.parameter_name}={name}{OLDEST_FIRST}",
            bad=name in BAD and seen.counts[name] > 0,
        )
        for name, label, below in tiles
    ]


def _counted(count: int) -> str:
    return gettext("%(count)s or more") % {"count": f"{count:,}"} if count >= overview.COUNTED else f"{count:,}"


def _history(request: HttpRequest, found: History) -> dict[str, Any]:
    names = catalogue.names([one.report_id for one in found.reports if one.report_id is not None])
    rows = _page(request, "reportqueue")
    begin = found.throughput[0].start if found.throughput else None
    end = found.throughput[-1].start + timedelta(seconds=found.span.seconds) if found.throughput else None
    return {
        "until": formats.instant_text(found.until, minutes=True),
        "period": formats.duration(timedelta(seconds=found.span.seconds)),
        "reports": [_line(one, names, rows) for one in found.reports],
        "bars": charts.bars(found.throughput),
        "lines": charts.lines(found.depths, begin, end) if begin and end and found.depths else None,
    }


def _line(one: OfReport, names: Mapping[int, str], rows: str) -> Line:
    if one.report_id is None:
        label, address = gettext("all others"), ""
    else:
        label, address = catalogue.label(one.report_id, names.get(one.report_id)), f"{rows}?report_id={one.report_id}"
    failed = one.ended.get(Status.FAILED, 0)
    return Line(label, address, f"{one.total:,}", f"{failed:,}" if failed else "", _times(one.waited), _times(one.ran))


def _times(times: Times | None) -> list[str]:
    if times is None:
        return [formats.EMPTY] * 3
    return [formats.duration(timedelta(seconds=seconds)) for seconds in (times.p50, times.p95, times.p99)]
