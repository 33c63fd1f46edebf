"""Rows of the queue as lists: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from reportqueue import catalogue, modifiers
from reportqueue.durations import duration
from reportqueue.lines import cut, last_line
from reportqueue.models import ReportQueue
from reportqueue.models.report import DEFAULT_ROUTE

WIDTH = 120
TABLE, JSON, CSV = FORMATS = ("table", "json", "csv")
_TIMES = ("trigger_time", "available_at", "started_at", "finished_at")
_PLAIN = (
    *("queue_id", "report_id", "report_name", "modifier_id", "modifier_name", "status", "source", "route", "priority"),
    *("attempt", "max_attempts", "run_id", "error"),
)


def shown(rows: Sequence[ReportQueue], form: str, now: datetime) -> str:
    """The rows, which have their names, in one of the `FORMATS`, with a line end at the end."""
    if form == TABLE:
        return "".join(f"{line}\n" for line in _table(rows, now))
    facts = [_facts(row, now) for row in rows]
    if form == JSON:
        return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    out = StringIO()
    writer = csv.DictWriter(out, [*_PLAIN, *_TIMES, "late_seconds"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(facts)
    return out.getvalue()


def _facts(row: ReportQueue, now: datetime) -> dict[str, Any]:
    times = {name: None if (at := getattr(row, name)) is None else _utc(at) for name in _TIMES}
    return {name: getattr(row, name) for name in _PLAIN} | times | {"late_seconds": _late(row, now)}


def _table(rows: Iterable[ReportQueue], now: datetime) -> Iterable[str]:
    """A line for each row, at most `WIDTH` characters long: an error has what is left of it."""
    for place, row in enumerate(rows):
        if place == 0:
            yield f"{'row':<9} {'status':<10} {'due (UTC)':<19} {'late':<10} {'tries':<5} report, modifier"
        due, tries = f"{row.trigger_time.astimezone(UTC):%Y-%m-%d %H:%M:%S}", f"{row.attempt}/{row.max_attempts}"
        begin = f"{f'#{row.pk}':<9} {row.status:<10} {due} {_lateness(row, now):<10} {tries:<5} "
        what = f"{catalogue.label(row.report_id, row.report_name)}, modifier {modifiers.label(row)}"
        what += f", route {row.route}" if row.route != DEFAULT_ROUTE else ""
        error = f": {last_line(row.error)}" if row.error else ""
        yield cut(f"{begin}{what}{error}", WIDTH)


def _lateness(row: ReportQueue, now: datetime) -> str:
    """How late the row is, or was when it started; of a row to come, when it is due."""
    late = (_start_of(row) or now) - row.trigger_time
    if row.finished_at is not None and row.started_at is None:
        return "never ran"
    if late.total_seconds() < 0 and row.started_at is None:
        return f"in {duration(late)}"
    return duration(late) if late.total_seconds() >= 1 else "on time"


def _start_of(row: ReportQueue) -> datetime | None:
    return row.started_at or row.finished_at


def _late(row: ReportQueue, now: datetime) -> float:
    return round(((_start_of(row) or now) - row.trigger_time).total_seconds(), 3)


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
