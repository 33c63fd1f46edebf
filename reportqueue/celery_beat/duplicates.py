"""Find the schedule that an earlier import has made: a repeated import makes no second copy."""

from __future__ import annotations

import json
from collections.abc import Hashable

from reportqueue.celery_beat.drafts import Draft
from reportqueue.locks import lock_until_commit
from reportqueue.models import ReportSchedule


def lock_imports() -> None:
    """Let one import at a time look for existing schedules and save, until the transaction ends."""
    lock_until_commit("reportqueue.celery_beat")


def existing_schedule(draft: Draft) -> ReportSchedule | None:
    """A schedule with the same report, modifier, rule, zone and params; preferably with the same start and end."""
    new = draft.schedule
    found = ReportSchedule.objects.filter(
        report_id=new.report_id,
        modifier_id=new.modifier_id,
        cron=new.cron,
        interval_seconds=new.interval_seconds,
        timezone=new.timezone,
        params=new.params,
    ).order_by("pk")
    return min(found, key=lambda there: not same_start_and_end(draft, there), default=None)


def same_start_and_end(draft: Draft, there: ReportSchedule) -> bool:
    """Whether both have the same start and end. An interval's start is also its phase and may differ."""
    new = draft.schedule
    same_start = new.start_at == there.start_at or new.interval_seconds is not None
    return same_start and new.end_at == there.end_at


def identity(draft: Draft) -> Hashable:
    """A key that is equal for two periodic tasks that would become the same schedule."""
    new, task = draft.schedule, draft.task
    params = json.dumps(new.params, sort_keys=True)
    rule = (new.cron, new.interval_seconds, new.timezone)
    return (new.report_id, new.modifier_id, *rule, params, task.start_time, task.expires)
