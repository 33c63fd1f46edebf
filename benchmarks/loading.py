"""What the benchmarks do to the database through Django: a process of its own for each, run by their main one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import django

django.setup()

from django.db import transaction  # noqa: E402

from reportqueue import schedules  # noqa: E402
from reportqueue.models import ReportSchedule  # noqa: E402
from reportqueue.patterns import Pattern  # noqa: E402


def empty() -> None:
    """Without the demo's schedules."""
    ReportSchedule.objects.all().delete()


def switch(pattern: str) -> None:
    """Hand the firings over, from now on."""
    schedules.hand_over(Pattern(pattern))


@transaction.atomic
def rest(count: int) -> None:
    """Make it `count` schedules (no fewer than there are), each once a week, at a minute of a day that is not near."""
    for number in range(count):
        _save(number, f"{number % 60} {number // 60 % 24} * * {(datetime.now(UTC) + timedelta(days=3)):%w}")


@transaction.atomic
def fire(count: int, first: float, minutes: int) -> None:
    """Have the first `count` schedules fire in so many minutes from an instant on, all of them within its hour."""
    instant = datetime.fromtimestamp(first, UTC)
    for number in range(count):
        _save(number, f"{instant.minute}-{instant.minute + minutes - 1} {instant.hour} * * *")


def _save(number: int, cron: str) -> None:
    schedule = ReportSchedule.objects.filter(report_id=number).first() or ReportSchedule(report_id=number)
    if schedule.cron != cron:
        schedule.modifier_id, schedule.cron, schedule.timezone = 1, cron, "UTC"
        schedule.save()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["empty"]:
            empty()
        case ["switch", pattern]:
            switch(pattern)
        case ["rest", count]:
            rest(int(count))
        case ["fire", count, first, minutes]:
            fire(int(count), float(first), int(minutes))
        case other:
            raise SystemExit(f"error: {other} is none of: empty, switch PATTERN, rest COUNT, fire COUNT FIRST MINUTES")
