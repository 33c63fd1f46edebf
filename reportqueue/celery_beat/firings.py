"""When beat fires a periodic task.

Beat stores only when it last ran the task, and computes the next time from that: an interval's length later, or the
next reading of the clock that the crontab matches. It fires a reading that the clock shows twice at the first one only,
and a reading that the clock skips by the offset before the gap. That is celery 5.5 to 5.7. Before, its behaviour on
such a day depended on when it happened to check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import reportcron
from reportqueue.celery_beat.crontabs import Crontab
from reportqueue.celery_beat.tables import BeatTask

SAVES_WITHIN = timedelta(minutes=5)
"""Beat stores the last runs only every few minutes: a task that is late by less may have run."""
_LONG_AGO = timedelta(days=365 * 30)


@dataclass(frozen=True)
class CrontabRule:
    """A crontab in a time zone."""

    crontab: Crontab
    timezone: str

    def after(self, last: datetime) -> datetime:
        """When beat runs it next; both aware UTC."""
        zone = ZoneInfo(self.timezone)
        reading = reportcron.reading_of(self.timezone, last)
        while True:
            reading = self.crontab.after(reading)
            # After a run in the second of two equal hours, beat's next reading is in the past: it fires repeatedly.
            if (instant := reading.replace(tzinfo=zone).astimezone(UTC)) > last:
                return instant


@dataclass(frozen=True)
class IntervalRule:
    """Elapsed time since the last run."""

    length: timedelta

    def after(self, last: datetime) -> datetime:
        """When beat runs it next; both aware UTC."""
        return last + self.length


Rule = CrontabRule | IntervalRule


@dataclass(frozen=True)
class Outlook:
    """What beat will do with a task from now on; a disabled task is treated as if it were enabled now."""

    last: datetime
    """The last run, from which it counts, to the second; aware UTC."""
    late: datetime | None
    """When it fires what it finds to be late, off its rule: now, or once the task's start has come. Some minutes later
    in fact; and since django-celery-beat 2.8, a crontab of one hour at the earliest two hours before that hour."""

    @classmethod
    def of(cls, task: BeatTask, rule: Rule, now: datetime) -> Outlook:
        """The outlook of a task. A task that never ran counts from its last change, or is late if it has a start."""
        last = task.last_run_at
        if last is None:
            last = (task.date_changed if task.enabled else now) - (_LONG_AGO if task.start_time else timedelta())
        last = whole_second(last)
        start = whole_second(task.start_time) if task.start_time else now
        due = rule.after(last)
        if start > now:
            return cls(last, start if due <= start else None)
        return cls(last, now if due <= now - SAVES_WITHIN else None)

    def firings(self, rule: Rule, now: datetime, expires: datetime | None) -> Iterator[datetime]:
        """Beat's firings after `now`, in order; a late one may be at `now` itself."""
        instant = self.late or rule.after(self.last)
        while expires is None or instant < expires:
            if instant > now or instant == self.late:
                yield instant
            instant = rule.after(instant)


def whole_second(instant: datetime) -> datetime:
    """The instant in UTC without its fraction: beat is late by more than that anyway."""
    return instant.astimezone(UTC).replace(microsecond=0)
