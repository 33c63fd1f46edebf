"""The agenda: what will run, hour by hour, across all schedules, and how much work that is.

Schedules that are not in the numbers are counted and named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from django.db import OperationalError
from django.db.models import Count, Q
from psycopg.errors import QueryCanceled

from reportqueue import catalogue, database, queue
from reportqueue.models import BlackoutCalendar, Pause, ReportSchedule
from reportqueue.models.pause import Scope
from reportqueue.models.schedule import ReportScheduleQuerySet
from reportqueue.schedules.agenda_counting import REACH, Budget, Counting, Fields
from reportqueue.schedules.agenda_numbers import NAMED, Agenda, Hour, Why
from reportqueue.schedules.durations import typical_seconds
from reportqueue.timing.hours import hours_of

MAX_SCHEDULES = 5_000
"""At most this many enabled schedules are counted, the oldest first."""
MAX_AGENDA_HOURS = 168
BUDGET_SECONDS = 2.0
"""The counting ends after this time."""


def agenda(
    start: datetime,
    hours: int,
    zone: str,
    *,
    schedules: ReportScheduleQuerySet | None = None,
    budget_seconds: float = BUDGET_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Agenda:
    """What the schedules (all, unless some are given) will fire from `start` on, by the hours of the zone's clock.

    The first hour is the one that has `start` (aware), and `hours` (1 to `MAX_AGENDA_HOURS`) of elapsed time are
    counted from its begin. Reads a fixed number of times, and computes for at most `budget_seconds` by `clock`.
    Raises `reportcron.UnknownTimezone`, and `ValueError` for another number of hours.
    """
    if not 1 <= hours <= MAX_AGENDA_HOURS:
        raise ValueError(f"An agenda has 1 to {MAX_AGENDA_HOURS} hours.")
    start = start.astimezone(UTC)
    cut = hours_of(zone, start, hours)
    made = Agenda(start, cut[-1].end, zone, [Hour(one) for one in cut])
    wanted = ReportSchedule.objects.all() if schedules is None else schedules
    rows = _read(made, wanted)
    pauses, held = _held({row.report_id for row in rows})
    made.pauses = pauses
    typical = _typical({row.report_id for row in rows}, budget_seconds)
    made.measured = typical is not None
    calendars = BlackoutCalendar.values_of({row.calendar_id for row in rows if row.calendar_id is not None})
    work = Counting(made, calendars, typical or {}, Budget(clock, clock() + budget_seconds))
    work.count(rows, held)
    return made


def _read(made: Agenda, wanted: ReportScheduleQuerySet) -> list[Fields]:
    """The schedules to count. Notes those beyond the bound, and the disabled ones."""
    near = wanted.filter(
        Q(end_at=None) | Q(end_at__gte=made.start - REACH), Q(start_at=None) | Q(start_at__lt=made.end + REACH)
    )
    totals = near.order_by().aggregate(
        fire=Count("pk", filter=Q(enabled=True)), rest=Count("pk", filter=Q(enabled=False))
    )
    made.disabled_count = totals["rest"]
    by_id = near.order_by("pk").values_list(*Fields._fields)
    made.disabled = [Fields(*row).entry() for row in by_id.filter(enabled=False)[:NAMED]]
    rows = [Fields(*row) for row in by_id.filter(enabled=True)[: MAX_SCHEDULES + NAMED]]
    if beyond := rows[MAX_SCHEDULES:]:
        more = max(totals["fire"] - MAX_SCHEDULES, len(beyond))
        made.left_out.add([row.entry() for row in beyond], Why.SCHEDULES, more)
    return rows[:MAX_SCHEDULES]


def _held(report_ids: Collection[int]) -> tuple[list[Pause], set[int]]:
    """The pauses that concern any of the reports, and the reports that they hold back."""
    routes: dict[int, str] = {}
    pauses, held = [], set()
    for pause in queue.paused():
        if pause.scope == Scope.ROUTE and not routes:
            routes = {pk: terms.route for pk, terms in catalogue.terms(report_ids).items()}
        concerned = {
            pk
            for pk in report_ids
            if pause.scope == Scope.QUEUE or pk == pause.report_id or (pause.route and routes.get(pk) == pause.route)
        }
        if concerned:
            pauses.append(pause)
            held |= concerned
    return pauses, held


def _typical(report_ids: Collection[int], seconds: float) -> dict[int, float] | None:
    """The typical durations; None if reading them takes longer than this."""
    try:
        with database.quick(max(seconds, 0.1)):
            return typical_seconds(report_ids)
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        return None
