"""Who fires a schedule now, and so what it is to wait for: the scheduler, or a sensor of Dagster's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Subquery, Value
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext

from reportqueue.admin import formats
from reportqueue.models import TriggerPeriod
from reportqueue.patterns import SENSOR_FIRED, Pattern


def read() -> dict[str, Any]:
    """What the functions here read of a schedule; worked out once for a statement, not for each row."""
    there = TriggerPeriod.objects.at(Now()).order_by()
    planned = TriggerPeriod.objects.filter(since__gt=Now()).order_by("since")
    return {
        "duty_of": Coalesce(Subquery(there.values("pattern")[:1]), Value(Pattern.QUEUE.value)),
        "duty_since": Subquery(there.values("since")[:1]),
        "next_duty_of": Subquery(planned.values("pattern")[:1]),
        "next_duty_at": Subquery(planned.values("since")[:1]),
    }


def is_plainly_queued(schedule: Any) -> bool:
    """Whether the queue fires it, and nothing else is planned."""
    return schedule.duty_of == Pattern.QUEUE and schedule.next_duty_at is None


def sentence(schedule: Any) -> str:
    """The pattern that fires it, and the hand-over that is planned."""
    now = gettext("fired by: %(pattern)s") % {"pattern": Pattern(schedule.duty_of).label}
    if schedule.next_duty_at is None:
        return now
    planned = gettext("from %(when)s UTC on: %(pattern)s")
    values = {"when": formats.utc(schedule.next_duty_at), "pattern": Pattern(schedule.next_duty_of).label}
    return f"{now}; {planned % values}"


def late_since(schedule: Any) -> datetime | None:
    """Since when the scheduler should have queued its firing, if that has come and is the scheduler's."""
    due: datetime | None = schedule.next_run_at
    since: datetime | None = schedule.duty_since
    if due is None or due > schedule.now:
        return None
    if schedule.duty_of in SENSOR_FIRED:
        # What was due before the hand-over, the scheduler still has to queue.
        return due if since is not None and due < since else None
    return due if since is None else max(due, since)


def next_firing(schedule: Any) -> datetime | None:
    """When it fires next; None if never, or if nobody who is on duty can fire it.

    Where sensors fire, what is planned is the first firing since the last edit: it does not move on.
    """
    due: datetime | None = schedule.next_run_at
    if schedule.duty_of not in SENSOR_FIRED or due is None:
        return due
    if schedule.queue_only_fields():
        return None
    try:
        following: datetime | None = due if due > schedule.now else schedule.next_firing(schedule.now)
        return following
    except (ValueError, OverflowError, ValidationError):  # written around the checks
        return None
