"""Insert the rows of schedules' firings, in bulk: queued, waiting for an earlier report, or skipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reportqueue import audit, catalogue, database, events, locks, tracing
from reportqueue.models import Report, ReportQueue, ReportSchedule
from reportqueue.models.event import EventType
from reportqueue.models.report import DEFAULT_ROUTE
from reportqueue.queue import turns
from reportqueue.queue.intake import unique_lock
from reportqueue.signals import Transition, announce, announce_all
from reportqueue.states import Source, Status, Verb
from reportqueue.timing.policies import Overlap, SkipReason


@dataclass(frozen=True)
class SkipNote:
    """Why a firing is skipped: in words, and as the row's `result`."""

    error: str
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Firing:
    """One firing of a schedule, which becomes one row with the schedule's content; times aware UTC."""

    schedule_id: int
    trigger_time: datetime
    available_at: datetime
    waiting: bool = False
    """Whether it has to wait for its turn; the caller holds the lock of the row whose turn it is."""
    skipped: SkipNote | None = None


# INSERT ... SELECT copies the schedules' content inside the database: a hundred thousand due at once take seconds. The
# ORM cannot insert from a query.
_INSERT = """
INSERT INTO {queue} (
    schedule_id, concurrency_key, trigger_time, available_at, waiting, status, error, result, finished_at,
    report_id, modifier_id, route, expires_at, deadline_at, params, priority, max_attempts, source, queued_by,
    traceparent, generation, attempt, launch_failures, claimed_by, run_id, cancel_requested
)
SELECT
    s.id, CASE WHEN s.overlap <> %(allow)s THEN s.id END, f.trigger_time, f.available_at, f.waiting, f.status,
    f.error, f.result::jsonb,
    CASE WHEN f.status = %(skipped)s THEN clock_timestamp() END,
    s.report_id, s.modifier_id, coalesce(r.route, %(route)s),
    CASE WHEN %(in_time)s AND f.status <> %(skipped)s
        THEN f.trigger_time + make_interval(secs => r.expires_after_seconds) END,
    CASE WHEN %(in_time)s AND f.status <> %(skipped)s
        THEN f.trigger_time + make_interval(secs => r.deadline_seconds) END,
    coalesce(r.default_params, '{{}}') || s.params, s.priority, s.max_attempts, %(source)s,
    %(queued_by)s, f.traceparent,
    0, 0, 0, '', '', false
FROM unnest(
    %(schedules)s::bigint[], %(trigger_times)s::timestamptz[], %(available_ats)s::timestamptz[],
    %(waiting)s::boolean[], %(statuses)s::text[], %(errors)s::text[], %(results)s::text[],
    %(traceparents)s::text[]
) WITH ORDINALITY AS f (
    schedule_id, trigger_time, available_at, waiting, status, error, result, traceparent, place
)
JOIN {schedules} s ON s.id = f.schedule_id
LEFT JOIN {reports} r ON r.report_id = s.report_id
ORDER BY f.place
ON CONFLICT DO NOTHING
RETURNING id, schedule_id, report_id, modifier_id, status
"""


@dataclass
class Inserted:
    """How many rows were new, of each kind."""

    queued: int = 0
    skipped: int = 0
    last: dict[int, int] = field(default_factory=dict)
    """The id of the last queued row of each schedule, by the schedule's id."""


def enqueue_firings(firings: Sequence[Firing], *, source: Source = Source.SCHEDULE) -> Inserted:
    """Insert rows for the firings; a firing that has a row already is left out.

    The caller holds the schedules' locks.
    """
    inserted = Inserted()
    if not firings:
        return inserted
    tables = {"queue": ReportQueue, "schedules": ReportSchedule, "reports": Report}
    sql = _INSERT.format(**{name: model._meta.db_table for name, model in tables.items()})
    with database.atomic(), database.connection().cursor() as cursor:
        if source == Source.SCHEDULE:  # what a person asks for is queued
            firings = _without_doubles(firings)
        cursor.execute(
            sql,
            {
                "skipped": Status.SKIPPED.value,
                "source": source.value,
                # A consumer's claim may have found it due: it is the schedule's all the same.
                "queued_by": "" if source == Source.SCHEDULE else audit.actor().by,
                "route": DEFAULT_ROUTE,
                # A backfill is wanted, and is never late.
                "in_time": source != Source.BACKFILL,
                "schedules": [firing.schedule_id for firing in firings],
                "trigger_times": [firing.trigger_time for firing in firings],
                "available_ats": [firing.available_at for firing in firings],
                "allow": Overlap.ALLOW.value,
                "waiting": [firing.waiting for firing in firings],
                "statuses": [(Status.SKIPPED if firing.skipped else Status.QUEUED).value for firing in firings],
                "errors": [firing.skipped.error if firing.skipped else "" for firing in firings],
                "traceparents": tracing.fired(
                    [(firing.schedule_id, firing.trigger_time) for firing in firings], own=source == Source.SCHEDULE
                ),
                "results": [json.dumps(firing.skipped.result) if firing.skipped else None for firing in firings],
            },
        )
        made = cursor.fetchall()
        announce_all(
            [
                Transition(
                    verb=Verb.SKIP if status == Status.SKIPPED else Verb.ENQUEUE,
                    queue_id=pk,
                    report_id=report_id,
                    modifier_id=modifier_id,
                    before="",
                    after=status,
                    generation=0,
                    attempt=0,
                    run_id="",
                    claimed_by="",
                )
                for pk, _, report_id, modifier_id, status in made
            ]
        )
        events.write_rows(EventType.SKIPPED, [pk for pk, *_, status in made if status == Status.SKIPPED])
    for pk, schedule_id, _, _, status in made:
        if status == Status.QUEUED:
            inserted.queued += 1
            inserted.last[schedule_id] = max(pk, inserted.last.get(schedule_id, 0))
        else:
            inserted.skipped += 1
    return inserted


def _without_doubles(firings: Sequence[Firing]) -> list[Firing]:
    """The firings, those skipped whose schedule is `unique` and whose report is unfinished already."""
    named = {firing.schedule_id for firing in firings if firing.skipped is None}
    schedules = {one.pk: one for one in ReportSchedule.objects.filter(pk__in=named, unique=True).order_by("pk")}
    if not schedules:
        return list(firings)
    for name in sorted({unique_lock(one.report_id, one.modifier_id) for one in schedules.values()}):
        locks.lock_until_commit(name)
    known = catalogue.terms(one.report_id for one in schedules.values())
    taken: list[tuple[int, int, dict[str, Any]]] = []
    found = []
    for firing in firings:
        schedule = None if firing.skipped is not None else schedules.get(firing.schedule_id)
        if schedule is not None:
            params = known[schedule.report_id].merged(schedule.params)
            same = (schedule.report_id, schedule.modifier_id, params)
            if same in taken or ReportQueue.objects.same_unfinished(*same).exists():
                note = SkipNote(f"Skipped: {_DOUBLE}", {"reason": SkipReason.UNIQUE.value, "count": 1})
                firing = replace(firing, waiting=False, skipped=note)
            taken.append(same)
        found.append(firing)
    return found


_DOUBLE = "the same report with the same modifier and parameters is unfinished."
LAUNCHED_GENERATION = 1
"""The generation of a row that was never claimed: the run that inserts it is its first."""


def enter_launched(schedule: ReportSchedule, trigger_time: datetime) -> ReportQueue:
    """Insert the row of a firing whose run exists already; that run starts it in the same transaction.

    The row has one attempt, since no consumer claims it. It may have to wait for its turn: then that run cannot start
    it. The caller holds the schedule's lock.
    """
    key, waiting = turns.of(schedule)
    terms = catalogue.terms([schedule.report_id])[schedule.report_id]
    row = ReportQueue.objects.create(
        schedule=schedule,
        report_id=schedule.report_id,
        modifier_id=schedule.modifier_id,
        route=terms.route,
        params=terms.merged(schedule.params),
        priority=schedule.priority,
        max_attempts=1,
        generation=LAUNCHED_GENERATION,
        trigger_time=trigger_time,
        available_at=trigger_time,
        source=Source.SCHEDULE,
        concurrency_key=key,
        waiting=waiting,
        traceparent=tracing.fired([(schedule.pk, trigger_time)], own=True)[0],
    )
    announce(Verb.ENQUEUE, [row], before="")
    return row
