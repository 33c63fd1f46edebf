"""Rows that say which firings were skipped and why: one for each, or one that counts many."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from reportqueue import queue
from reportqueue.lines import counted
from reportqueue.timing.catch_up import Skip

ROWS = 10
"""If more instants than this are skipped for one reason at once, they share one row."""


def skip_rows(schedule_id: int, skipped: Iterable[Skip]) -> list[queue.Firing]:
    """The rows for skipped instants; the `trigger_time` of a row that counts several is the last of them."""
    rows = []
    for skip in skipped:
        instants = skip.instants
        if skip.complete and len(instants) <= ROWS:
            note = queue.SkipNote(f"Skipped: {skip.why}.", {"reason": skip.reason.value, "count": 1})
            rows += [queue.Firing(schedule_id, instant, instant, skipped=note) for instant in instants]
            continue
        count = counted(len(instants), more=not skip.complete)
        facts = {
            "reason": skip.reason.value,
            "count": len(instants),
            "complete": skip.complete,
            "first": _utc(instants[0]),
            "last": _utc(instants[-1]),
        }
        text = f"Skipped {count} firings from {facts['first']} to {facts['last']}: {skip.why}."
        rows.append(queue.Firing(schedule_id, instants[-1], instants[-1], skipped=queue.SkipNote(text, facts)))
    return rows


def _utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
