"""`manage.py compare_patterns`: compare what each pattern would fire in the coming hours, before a switch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from reportqueue import bounds, schedules
from reportqueue.clock import database_now
from reportqueue.errors import ScheduleNotFound
from reportqueue.management.arguments import whole_number

PROGRESS = 1_000
"""A line of progress is printed after this many schedules."""
MAX_SHOWN = 10_000
_DIFFERS, _FAILED = 1, 2


@dataclass
class _Counts:
    """The counts over all schedules so far."""

    compared: int = 0
    queued: int = 0
    queue_fires: int = 0
    """Schedules with at least one firing, here and below."""
    launched: int = 0
    sensors_fire: int = 0
    left_out: int = 0
    broken: int = 0
    differences: int = 0
    differing: int = 0

    def add(self, one: schedules.Compared, differences: int) -> None:
        """Count one schedule."""
        self.compared += 1
        self.queued += len(one.queue)
        self.queue_fires += bool(one.queue)
        self.launched += len(one.sensors)
        self.sensors_fire += bool(one.sensors)
        self.left_out += bool(one.left_out)
        self.broken += bool(one.error)
        self.differences += differences
        self.differing += bool(differences)


class Command(BaseCommand):
    """Prints the differences, schedule by schedule, and a line for each pattern; changes nothing."""

    help = (
        "Compares what the patterns would fire in the coming hours, as if each had all of them, and says why they "
        "differ and what to do about it. Exits with 0 if nothing differs, 1 if something does, 2 for an error."
    )
    # A failed check would end it with exit code 1, which means that something differs.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument(
            "--hours",
            type=whole_number(1, schedules.MAX_HOURS),
            default=24,
            metavar="N",
            help=f"how far to look ahead, from now (1 to {schedules.MAX_HOURS}, default 24)",
        )
        parser.add_argument("--schedule", type=whole_number(1, bounds.MAX_ID), metavar="ID", help="this one alone")
        parser.add_argument(
            "--limit",
            type=whole_number(0, MAX_SHOWN),
            default=50,
            metavar="N",
            help=f"differences to show (0 to {MAX_SHOWN:,}, default 50); all are counted",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the differences and the counts."""
        try:
            start = database_now()
            end = start + timedelta(hours=options["hours"])
            found = self._found(start, end, options["schedule"], options["limit"], as_text=not options["json"])
        except ScheduleNotFound as error:
            raise CommandError(str(error), returncode=_FAILED) from None
        except Error as error:
            text = f"The database does not answer as it should: {str(error).splitlines()[0]} Is it migrated?"
            raise CommandError(text, returncode=_FAILED) from None
        if found.differences:
            raise SystemExit(_DIFFERS)

    def _found(self, start: datetime, end: datetime, pk: int | None, limit: int, *, as_text: bool) -> _Counts:
        counts = _Counts()
        shown: list[dict[str, Any]] = []
        found = schedules.compare(start, end, pk=pk)
        if as_text:
            self.stdout.write(f"As if each pattern had every firing after {_utc(start)} until {_utc(end)}.")
        for one in found:
            instants = one.differing()
            left = max(0, limit - counts.differences)
            counts.add(one, len(instants))
            explained = [one.explain(instant) for instant in instants[:left]]
            if as_text:
                for line in _paragraph(one, explained):
                    self.stdout.write(line)
            else:
                shown += [_as_json(one, difference) for difference in explained]
            if counts.compared % PROGRESS == 0:
                self.stderr.write(f"{counts.compared:,} schedules, {counts.differences:,} differences so far")
        if as_text:
            self._sum_up(counts, min(limit, counts.differences), pk)
        else:
            self.stdout.write(json.dumps(_summary(counts, start, end) | {"differences": shown}, indent=2))
        return counts

    def _sum_up(self, counts: _Counts, shown: int, pk: int | None) -> None:
        if more := counts.differences - shown:
            self.stdout.write(f"{more:,} more differences are not shown; see --limit and --schedule.")
        if pk is not None and not counts.compared:
            self.stdout.write(f"Schedule {pk} is paused: no pattern fires it.")
        out = f"; {counts.left_out:,} schedules left out" if counts.left_out else ""
        self.stdout.write(f"queue    {counts.queued:,} firings of {counts.queue_fires:,} schedules")
        self.stdout.write("polling  the same rows as queue, launched by polling")
        self.stdout.write(f"cron     {counts.launched:,} firings of {counts.sensors_fire:,} schedules{out}")
        self.stdout.write("asset    the same as cron, once Dagster has been told of the last change")
        if counts.left_out:
            self.stdout.write(
                "switch_pattern --to cron and --to asset refuse while schedules are left out: change or pause them "
                "first, or stay with queue or polling."
            )
        if counts.broken:
            self.stdout.write(f"{counts.broken:,} schedules cannot be evaluated, and no pattern fires them.")
        if counts.differences:
            self.stdout.write(f"{counts.differences:,} firings of {counts.differing:,} schedules differ.")
        else:
            self.stdout.write(f"Nothing differs: {counts.compared:,} schedules fire alike in every pattern.")


def _paragraph(one: schedules.Compared, explained: list[schedules.Difference]) -> Iterator[str]:
    """A schedule's differences, grouped by cause, each group with its remedy."""
    schedule = one.schedule
    if one.error:
        yield f"schedule {schedule.pk} ({schedule}) cannot be evaluated: {one.error}"
    if explained:
        yield f"schedule {schedule.pk} ({schedule})"
    for (fields, remedy), group in groupby(explained, lambda difference: (difference.fields, difference.remedy)):
        for difference in group:
            own = f"{difference.reading:%Y-%m-%d %H:%M:%S %Z}"
            yield f"  {_utc(difference.instant)}  {own}  {_sides(difference)}: {', '.join(fields)}: {difference.reason}"
        yield f"    remedy: {remedy}"


def _sides(difference: schedules.Difference) -> str:
    if difference.queue:
        return "queue only"
    return "sensors only" if difference.sensors else "by its expression alone"


def _as_json(one: schedules.Compared, difference: schedules.Difference) -> dict[str, Any]:
    return {
        "schedule_id": one.schedule.pk,
        "report_id": one.schedule.report_id,
        "modifier_id": one.schedule.modifier_id,
        "instant": _utc(difference.instant),
        "local": difference.reading.isoformat(),
        "timezone": one.schedule.timezone,
        "queue": difference.queue,
        "sensors": difference.sensors,
        "expression": difference.expression,
        "fields": list(difference.fields),
        "reason": difference.reason,
        "remedy": difference.remedy,
    }


def _summary(counts: _Counts, start: datetime, end: datetime) -> dict[str, Any]:
    rows = {"firings": counts.queued, "schedules": counts.queue_fires}
    runs = {"firings": counts.launched, "schedules": counts.sensors_fire, "left_out": counts.left_out}
    return {
        "after": _utc(start),
        "until": _utc(end),
        "schedules": counts.compared,
        "patterns": {"queue": rows, "polling": rows, "cron": runs, "asset": runs},
        "broken": counts.broken,
        "differences_count": counts.differences,
    }


def _utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
