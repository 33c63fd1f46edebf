"""What no transaction tells of: missed deadlines, overdue schedules, and that nobody claims.

It is looked for from time to time, and only for events that somebody subscribes to. A trouble is told once when it is
found, and once when it is over. An alert rule that is added or enabled later is told of what lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.db.models import Exists, OuterRef, TextField, Value
from django.db.models.functions import Cast, Concat

from reportqueue import catalogue, database, events, locks, triggers
from reportqueue.conf import conf
from reportqueue.events import Told
from reportqueue.models import OutboxEvent, ReportQueue, ReportSchedule, Trouble, WebhookSubscription
from reportqueue.models.event import EventType
from reportqueue.outbox import alerts

WATCH_SECONDS = 5.0
MOST = 1_000
"""Rows, and schedules, that one look tells of; the next one tells of the others."""
_LOCK = "reportqueue:events:watch"


def watch() -> None:
    """Look once. Several processes may: one at a time looks, the others leave it."""
    if not WebhookSubscription.objects.filter(enabled=True).exists() and not Trouble.objects.exists():
        return
    tell_late()
    _settle(EventType.SCHEDULE_OVERDUE, EventType.SCHEDULE_ON_TIME, _overdue)
    _settle(EventType.SILENT, EventType.HEARD, _silent)


def tell_late() -> int:
    """Write the event of reports that have missed their deadline and are unfinished; how many there were.

    Their rows are locked meanwhile: none of them ends at the same time, so its end is told after this.
    """
    wanted = events.reports_told(EventType.LATE)
    if wanted == set():
        return 0
    told = OutboxEvent.objects.filter(type=EventType.LATE, subject=_subject(OuterRef("pk")))
    with locks.bounded():
        if not locks.try_until_commit(_LOCK):
            return 0
        late = ReportQueue.objects.past_deadline().filter(~Exists(told)).order_by("deadline_at")
        if wanted is not None:  # others would never be told of, and would be found again each time
            late = late.filter(report_id__in=wanted)
        free = late.select_for_update(skip_locked=True, no_key=True, of=("self",))
        found = list(free.values_list("pk", flat=True)[:MOST])
        events.write_rows(EventType.LATE, found)
    return len(found)


def _subject(pk: Any) -> Concat:
    return Concat(Value("row:"), Cast(pk, TextField()), output_field=TextField())


def _settle(kind: EventType, over: EventType, find: Callable[[Collection[str]], dict[str, Told]]) -> None:
    """Tell of each trouble that is new, and of each that is over.

    `find` gets the subjects that were told of, and returns all of these that last, and new ones.
    """
    if not events.subscribed(kind) and not events.subscribed(over):
        Trouble.objects.filter(type=kind).delete()  # so that it is told to whoever subscribes next
        return
    with locks.bounded():
        if not locks.try_until_commit(_LOCK):
            return
        known = {one.subject: one for one in Trouble.objects.filter(type=kind)}
        now = find(known)
        held = _held([subject for subject in {**now, **known} if subject not in now or subject not in known])
        new = [told for subject, told in now.items() if subject not in known and subject not in held]
        gone = [one for subject, one in known.items() if subject not in now and subject not in held]
        alerts.tell_lasting(kind, [told for subject, told in now.items() if subject in known])
        Trouble.objects.bulk_create([Trouble(type=kind, subject=subject, report_id=of) for subject, of, _ in new])
        Trouble.objects.filter(pk__in=[one.pk for one in gone]).delete()
        events.write_all(kind, new)
        events.write_all(over, [_over(one) for one in gone])


def _held(subjects: Collection[str]) -> set[str]:
    """Lock the schedules among these subjects; those that others have locked, who may tell of them at this moment.

    So the events of a schedule are committed in the order of their numbers. The next look tells of those that are held.
    """
    pks = [int(subject.partition(":")[2]) for subject in subjects if subject.startswith("schedule:")]
    stored = ReportSchedule.objects.filter(pk__in=pks)
    locked = set(stored.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
    return {f"schedule:{pk}" for pk in stored.values_list("pk", flat=True) if pk not in locked}


def _over(one: Trouble) -> Told:
    return one.subject, one.report_id, {"subject": one.subject, "since": one.since.isoformat()}


def _overdue(known: Collection[str]) -> dict[str, Told]:
    seen = triggers.watch()
    late = triggers.overdue(conf().overdue_seconds, now=seen.now, periods=seen.periods).defer("params")
    told = [int(subject.partition(":")[2]) for subject in known]
    found: list[ReportSchedule] = [
        *late.filter(pk__in=told),
        *late.exclude(pk__in=told).order_by("next_run_at")[:MOST],
    ]
    names = catalogue.names([one.report_id for one in found])
    return {
        subject: (subject, one.report_id, events.of_schedule(one, names))
        for one in found
        for subject in (f"schedule:{one.pk}",)
    }


def _silent(_known: Collection[str]) -> dict[str, Told]:
    with database.atomic():
        found = triggers.silent()
    return {
        subject: (subject, None, {"subject": subject, "text": str(one)})
        for one in found
        for subject in (f"consumers:{one.pattern}",)
    }
