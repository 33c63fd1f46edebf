"""What the metrics say, read from the database by bounded queries. It knows nothing of the format."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import OperationalError
from django.db.models import Max

from reportqueue import catalogue, database, measures, moving, queue, totals
from reportqueue.conf import conf
from reportqueue.models import Depth, Pause, ReportConsumer, ReportQueue
from reportqueue.models.measure import OTHERS
from reportqueue.models.queue import unfinished
from reportqueue.queue import RouteDepth
from reportqueue.states import UNFINISHED
from reportqueue.totals import Total
from reportqueue.triggers import watch

COUNTED = 10_000
"""Rows are counted up to here."""
DEADLINE_SECONDS = 5
"""After so long no further statement is begun."""
MOST_ROUTES = 1_000
"""Routes that are looked at."""
OTHER = "other"
"""Instead of what is not named."""


@dataclass(frozen=True)
class Readings:
    """The state of the installation, and what was measured so far."""

    rows: dict[str, int]
    """Unfinished rows by their status, each up to `COUNTED`."""
    late: int
    retrying: int
    failed: int
    """Rows that failed in the last hour and are still failed, without those of a muted failure."""
    oldest_due_seconds: float
    """How long the row waits that was due first; 0 if none waits."""
    routes: dict[str, RouteDepth]
    stalled: bool
    overdue_schedules: int
    pauses: dict[tuple[str, str], int]
    """What is paused by its scope and name; how many, for `OTHER`."""
    consumers: dict[tuple[str, str], float]
    """The seconds since each consumer last asked, by its pattern and name."""
    reports: dict[str, Total]
    """What was measured of each report, by its number."""
    names: dict[str, str]
    """The names of these reports, of those that the catalogue has."""
    measured_until: datetime | None
    """The end of the last period that was measured."""


def read(seconds: float) -> Readings:
    """Read it all; each statement may take so many `seconds`. Raises `Error` of the database."""
    until = time.monotonic() + DEADLINE_SECONDS
    most = conf().metrics_labels
    state = moving.state(seconds)
    _in_time(until)
    rows = ReportQueue.objects
    with database.quick(seconds):
        counts, oldest = database.counts_and_first(
            COUNTED,
            rows.due().filter(unfinished()).order_by("trigger_time", "id").values("available_at"),
            late=rows.past_deadline(),
            retrying=rows.retrying(),
            failed=rows.failed_lately(),
            **{status.value: rows.filter(status=status) for status in sorted(UNFINISHED)},
        )
        _in_time(until)
        routes = queue.depths_of_routes(COUNTED, most=MOST_ROUTES)
        seen = watch()
        _in_time(until)
        reports = totals.read(most)
        last = Depth.objects.aggregate(last=Max("start"))["last"]
        names = catalogue.names(reports.keys() - {OTHERS})
    return Readings(
        rows={status.value: counts[status] for status in sorted(UNFINISHED)},
        late=counts["late"],
        retrying=counts["retrying"],
        failed=counts["failed"],
        oldest_due_seconds=max(0.0, (seen.now - oldest).total_seconds()) if oldest else 0.0,
        routes=_busiest(routes, most),
        stalled=bool(state.reasons),
        overdue_schedules=state.counts["overdue_schedules"],
        pauses=_paused(state.pauses, most),
        consumers=_consumers(reversed(seen.consumers), seen.now, most),
        reports={OTHER if pk == OTHERS else str(pk): total for pk, total in reports.items()},
        names={str(pk): name for pk, name in names.items()},
        measured_until=last and last + timedelta(seconds=measures.SHORT),
    )


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise OperationalError(f"The metrics were not read within {DEADLINE_SECONDS} s.")


def _busiest(routes: dict[str, RouteDepth], most: int) -> dict[str, RouteDepth]:
    """The routes with the most rows, and all others together. A route may be called `other`, too."""
    found: dict[str, RouteDepth] = {}
    for place, name in enumerate(sorted(routes, key=lambda name: (-routes[name].total, name))):
        of_route = found.setdefault(name if place < most else OTHER, RouteDepth())
        of_route.due += routes[name].due
        of_route.launched += routes[name].launched
        of_route.running += routes[name].running
    return found


def _paused(pauses: Iterable[Pause], most: int) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for place, pause in enumerate(pauses):
        name = pause.route or ("" if pause.report_id is None else str(pause.report_id))
        key = (pause.scope, name if place < most or not name else OTHER)
        found[key] = found.get(key, 0) + 1
    return found


def _consumers(newest_first: Iterable[ReportConsumer], now: datetime, most: int) -> dict[tuple[str, str], float]:
    """Those that asked last, and how long ago the last one of all others did."""
    found: dict[tuple[str, str], float] = {}
    for place, one in enumerate(newest_first):
        key = (one.pattern, one.name if place < most else OTHER)
        found.setdefault(key, max(0.0, (now - one.seen_at).total_seconds()))
    return found
