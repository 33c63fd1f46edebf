"""The pattern that owns a schedule's firings now, and what follows from that for its next firing."""

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
    """Annotations for the functions of this module. They are computed once for a statement, not for each row."""
    there = TriggerPeriod.objects.at(Now()).order_by()
    planned = TriggerPeriod.objects.filter(since__gt=Now()).order_by("since")
    return {
        "current_pattern": Coalesce(Subquery(there.values("pattern")[:1]), Value(Pattern.QUEUE.value)),
        "current_since": Subquery(there.values("since")[:1]),
        "next_pattern": Subquery(planned.values("pattern")[:1]),
        "next_pattern_at": Subquery(planned.values("since")[:1]),
    }


def is_plainly_queued(schedule: Any) -> bool:
    """Whether the queue fires it, and nothing else is planned."""
    return schedule.current_pattern == Pattern.QUEUE and schedule.next_pattern_at is None


def owner(schedule: Any) -> str:
    """The pattern that fires it, and the hand-over that is planned."""
    now = str(Pattern(schedule.current_pattern).label)
    if schedule.next_pattern_at is None:
        return now
    planned = gettext("from %(when)s on: %(pattern)s")
    values = {"when": formats.instant_text(schedule.next_pattern_at), "pattern": Pattern(schedule.next_pattern).label}
    return f"{now}; {planned % values}"


def late_since(schedule: Any) -> datetime | None:
    """Since when a due firing is late; None if none is due, or if the scheduler does not own it."""
    due: datetime | None = schedule.next_run_at
    since: datetime | None = schedule.current_since
    if due is None or due > schedule.now:
        return None
    if schedule.current_pattern in SENSOR_FIRED:
        # Firings from before the hand-over are still the scheduler's.
        return due if since is not None and due < since else None
    return due if since is None else max(due, since)


def next_firing(schedule: Any) -> datetime | None:
    """When it fires next; None if never, or if the pattern that owns its firings cannot fire it.

    While sensors fire, nothing moves the plan on: `next_run_at` is the first firing since the last edit.
    """
    due: datetime | None = schedule.next_run_at
    if schedule.current_pattern not in SENSOR_FIRED or due is None:
        return due
    if schedule.queue_only_fields():
        return None
    try:
        following: datetime | None = due if due > schedule.now else schedule.next_firing(schedule.now)
        return following
    except (ValueError, OverflowError, ValidationError):  # written past the checks
        return None
