"""Schedules that are there already, so that an import that is repeated makes no second copy."""

from __future__ import annotations

import json
from collections.abc import Hashable

from reportqueue.celery_beat.drafts import Draft
from reportqueue.locks import lock_until_commit
from reportqueue.models import ReportSchedule


def lock_imports() -> None:
    """Let one import at a time look for twins and save, until the transaction ends."""
    lock_until_commit("reportqueue.celery_beat")


def existing_schedule(draft: Draft) -> ReportSchedule | None:
    """The schedule with the same report, modifier, rule, zone and params; rather one of the same start and end."""
    new = draft.schedule
    found = ReportSchedule.objects.filter(
        report_id=new.report_id,
        modifier_id=new.modifier_id,
        cron=new.cron,
        interval_seconds=new.interval_seconds,
        timezone=new.timezone,
        params=new.params,
    ).order_by("pk")
    return min(found, key=lambda there: not same_stretch(draft, there), default=None)


def same_stretch(draft: Draft, there: ReportSchedule) -> bool:
    """Whether both may fire at the same times of their rule; the start of an interval is its phase as well."""
    new = draft.schedule
    same_start = new.start_at == there.start_at or new.interval_seconds is not None
    return same_start and new.end_at == there.end_at


def identity(draft: Draft) -> Hashable:
    """Equal for two periodic tasks that would become the same schedule."""
    new, task = draft.schedule, draft.task
    params = json.dumps(new.params, sort_keys=True)
    rule = (new.cron, new.interval_seconds, new.timezone)
    return (new.report_id, new.modifier_id, *rule, params, task.start_time, task.expires)
