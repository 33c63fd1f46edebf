"""Insert the rows of schedules' firings, in bulk: queued, waiting for an earlier report, or skipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reportqueue import database
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.queue import turns
from reportqueue.signals import Transition, announce, announce_all
from reportqueue.states import Source, Status, Verb
from reportqueue.timing.policies import Overlap


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
    report_id, modifier_id, params, priority, max_attempts, source,
    generation, attempt, launch_failures, claimed_by, run_id, cancel_requested
)
SELECT
    s.id, CASE WHEN s.overlap <> %(allow)s THEN s.id END, f.trigger_time, f.available_at, f.waiting, f.status,
    f.error, f.result::jsonb,
    CASE WHEN f.status = %(skipped)s THEN clock_timestamp() END,
    s.report_id, s.modifier_id, s.params, s.priority, s.max_attempts, %(source)s,
    0, 0, 0, '', '', false
FROM unnest(
    %(schedules)s::bigint[], %(trigger_times)s::timestamptz[], %(available_ats)s::timestamptz[],
    %(waiting)s::boolean[], %(statuses)s::text[], %(errors)s::text[], %(results)s::text[]
) WITH ORDINALITY AS f (schedule_id, trigger_time, available_at, waiting, status, error, result, place)
JOIN {schedules} s ON s.id = f.schedule_id
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
    sql = _INSERT.format(queue=ReportQueue._meta.db_table, schedules=ReportSchedule._meta.db_table)
    with database.atomic(), database.connection().cursor() as cursor:
        cursor.execute(
            sql,
            {
                "skipped": Status.SKIPPED.value,
                "source": source.value,
                "schedules": [firing.schedule_id for firing in firings],
                "trigger_times": [firing.trigger_time for firing in firings],
                "available_ats": [firing.available_at for firing in firings],
                "allow": Overlap.ALLOW.value,
                "waiting": [firing.waiting for firing in firings],
                "statuses": [(Status.SKIPPED if firing.skipped else Status.QUEUED).value for firing in firings],
                "errors": [firing.skipped.error if firing.skipped else "" for firing in firings],
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
    for pk, schedule_id, _, _, status in made:
        if status == Status.QUEUED:
            inserted.queued += 1
            inserted.last[schedule_id] = max(pk, inserted.last.get(schedule_id, 0))
        else:
            inserted.skipped += 1
    return inserted


LAUNCHED_GENERATION = 1
"""The generation of a row that was never claimed: the run that inserts it is its first."""


def enter_launched(schedule: ReportSchedule, trigger_time: datetime) -> ReportQueue:
    """Insert the row of a firing whose run exists already; that run starts it in the same transaction.

    The row has one attempt, since no consumer claims it. It may have to wait for its turn: then that run cannot start
    it. The caller holds the schedule's lock.
    """
    key, waiting = turns.of(schedule)
    row = ReportQueue.objects.create(
        schedule=schedule,
        report_id=schedule.report_id,
        modifier_id=schedule.modifier_id,
        params=schedule.params,
        priority=schedule.priority,
        max_attempts=1,
        generation=LAUNCHED_GENERATION,
        trigger_time=trigger_time,
        available_at=trigger_time,
        source=Source.SCHEDULE,
        concurrency_key=key,
        waiting=waiting,
    )
    announce(Verb.ENQUEUE, [row], before="")
    return row
