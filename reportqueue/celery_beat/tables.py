"""Read the periodic tasks from django-celery-beat's tables, by SQL, from the database that has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from django.db import connections
from django.utils.timezone import make_aware

MAX_TASKS = 10_000
"""The most tasks that one call reads."""
_COLUMNS = {
    "django_celery_beat_periodictask": (
        *("id", "name", "task", "args", "kwargs", "queue", "exchange", "routing_key", "headers", "priority"),
        *("expires", "expire_seconds", "one_off", "start_time", "enabled", "last_run_at", "total_run_count"),
        *("date_changed", "interval_id", "crontab_id", "solar_id", "clocked_id"),
    ),
    "django_celery_beat_intervalschedule": ("id", "every", "period"),
    "django_celery_beat_crontabschedule": (
        *("id", "minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone"),
    ),
}
_SELECT = """
    SELECT t.name, t.task, t.args, t.kwargs, t.queue, t.exchange, t.routing_key, t.headers, t.priority,
           t.expires, t.expire_seconds, t.one_off, t.start_time, t.enabled, t.last_run_at, t.total_run_count,
           t.date_changed, t.solar_id, t.clocked_id, i.every, i.period,
           c.minute, c.hour, c.day_of_month, c.month_of_year, c.day_of_week, c.timezone
    FROM django_celery_beat_periodictask t
    LEFT JOIN django_celery_beat_intervalschedule i ON i.id = t.interval_id
    LEFT JOIN django_celery_beat_crontabschedule c ON c.id = t.crontab_id
    ORDER BY t.name
"""


class BeatError(Exception):
    """The tables cannot be read as they are; `str()` tells a person what to do."""


@dataclass(frozen=True)
class BeatInterval:
    """A row of the table of intervals: every `every` units."""

    every: int
    period: str


@dataclass(frozen=True)
class BeatCrontab:
    """A row of the table of crontabs: the fields in cron's order, in celery's syntax."""

    fields: tuple[str, str, str, str, str]
    timezone: str


@dataclass(frozen=True, kw_only=True)
class BeatTask:
    """A periodic task; all times are aware."""

    name: str
    task: str
    args: str
    kwargs: str
    interval: BeatInterval | None = None
    crontab: BeatCrontab | None = None
    other: str = ""
    """"solar" or "clocked" for these kinds, else empty."""
    enabled: bool = True
    one_off: bool = False
    start_time: datetime | None = None
    expires: datetime | None = None
    last_run_at: datetime | None = None
    total_run_count: int = 0
    date_changed: datetime
    message: tuple[tuple[str, Any], ...] = ()
    """The options of its message to the broker, by name."""


def read(alias: str, *, tasks: Collection[str] = (), glob: str = "*") -> list[BeatTask]:
    """The tasks that run one of `tasks` (all, if there are none) and whose name matches, by name.

    Raises `BeatError` if the tables are not there or not as expected, if nothing runs one of `tasks`, and for more
    than `MAX_TASKS`.
    """
    _check(alias)
    unseen = set(tasks)
    found: list[BeatTask] = []
    for task in _rows(alias):
        if tasks and task.task not in tasks:
            continue
        unseen.discard(task.task)
        if not fnmatchcase(task.name, glob):
            continue
        if len(found) == MAX_TASKS:
            raise BeatError(
                f"More than {MAX_TASKS:,} periodic tasks match, as many as one call takes: split them by --task or "
                "--name ('a*', 'b*', ...)."
            )
        found.append(task)
    if unseen:
        raise BeatError(f"No periodic task runs {', '.join(map(repr, sorted(unseen)))}: see --task.")
    return found


def _check(alias: str) -> None:
    connection = connections[alias]
    with connection.cursor() as cursor:
        there = set(connection.introspection.table_names(cursor, include_views=True))
        for table, columns in _COLUMNS.items():
            if table not in there:
                raise BeatError(
                    f"The database {alias!r} has no table {table}. Name the one that django-celery-beat uses with "
                    "--database, by its alias in DATABASES; or run `manage.py migrate django_celery_beat` there."
                )
            described = connection.introspection.get_table_description(cursor, table)
            if missing := sorted(set(columns) - {column.name for column in described}):
                raise BeatError(
                    f"The table {table} of the database {alias!r} has no column {', '.join(missing)}. The columns of "
                    "django-celery-beat 2.0 to 2.9 are known: update it, and run "
                    "`manage.py migrate django_celery_beat` there."
                )


def _rows(alias: str) -> Iterator[BeatTask]:
    connection = connections[alias]

    def aware(value: datetime | None) -> datetime | None:
        # Some databases have no time zones; for these, Django has the zone in which it writes.
        if value is None or value.tzinfo is not None:
            return value
        return make_aware(value, connection.timezone or UTC)

    with connection.cursor() as cursor:
        cursor.execute(_SELECT)
        names = [column[0] for column in cursor.description]
        while rows := cursor.fetchmany(1_000):
            for values in rows:
                row = dict(zip(names, values, strict=True))
                fields = tuple(row[name] for name in ("minute", "hour", "day_of_month", "month_of_year", "day_of_week"))
                changed = aware(row["date_changed"])
                assert changed is not None  # noqa: S101  # the column is NOT NULL
                yield BeatTask(
                    name=row["name"],
                    task=row["task"],
                    args=row["args"],
                    kwargs=row["kwargs"],
                    interval=None if row["every"] is None else BeatInterval(row["every"], row["period"]),
                    crontab=None if row["minute"] is None else BeatCrontab(fields, row["timezone"]),
                    other="solar" if row["solar_id"] else "clocked" if row["clocked_id"] else "",
                    enabled=bool(row["enabled"]),
                    one_off=bool(row["one_off"]),
                    start_time=aware(row["start_time"]),
                    expires=aware(row["expires"]),
                    last_run_at=aware(row["last_run_at"]),
                    total_run_count=row["total_run_count"],
                    date_changed=changed,
                    message=tuple(
                        (name, row[name])
                        for name in ("queue", "exchange", "routing_key", "headers", "priority", "expire_seconds")
                        if row[name] not in (None, "", "{}")
                    ),
                )
