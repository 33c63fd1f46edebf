"""What people and other systems do during a scenario: enqueue reports, set and change schedules, cancel, requeue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Count

from dagster_reportqueue.client import ApiError, ApiRefused
from reportqueue.errors import RowBusy
from reportqueue.models import BlackoutCalendar, BlackoutDays, BlackoutHours, ReportQueue, ReportSchedule
from reportqueue.timing.policies import Blackout
from tools.simulator import faults
from tools.simulator.chance import Chance
from tools.simulator.database import Database
from tools.simulator.faults import Faults
from tools.simulator.history import History
from tools.simulator.instance import ENDED, Instance
from tools.simulator.machine import instant
from tools.simulator.network import Resource
from tools.simulator.runs import BAD, OK
from tools.simulator.world import World

SCHEDULED_REPORT, ASKED_REPORT = 1, 2
"""The report ids of rows that schedules make, and of those that somebody enqueues."""
TRIES = 6
RETRY_SECONDS = 3.0
LOOK_SECONDS = 8.0
"""How often a person looks for something to act on."""
OVERLAPS = ("allow", "skip", "queue_one")
CRONS = ("* * * * *", "*/2 * * * *", "*/3 * * * *")
DAILY = 200
"""From this modifier on, a schedule is due once a day, and only its calendar is edited."""
A_YEARLY_DAY = {"first_day": date(2024, 2, 29), "last_day": date(2024, 3, 1), "every_year": True}
"""In 2027, when the scenarios are played, it closes 1 March, the day on which they are played."""


@dataclass
class People:
    """Everybody who calls the API from outside of Dagster."""

    world: World
    chance: Chance
    struck: Faults
    history: History
    database: Database
    instances: list[Instance]
    locked_until: float = -1.0
    """When a stranger last held a schedule's lock; until then passes leave that schedule out."""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the API, again while it does not answer; None if it refuses or never answers."""
        client = Resource().client(retries=0)
        for _ in range(TRIES):
            try:
                if method == "POST":
                    return client.post(path, body or {})
                data = None if body is None else json.dumps(body).encode()
                return client.request(method, path, data=data, headers={"Content-Type": "application/json"})
            except ApiRefused:
                return None
            except ApiError:
                self.world.sleep(RETRY_SECONDS)
        return None

    def enqueue(self, number: int, kind: str, *, seconds: tuple[float, float], attempts: int) -> None:
        """Enqueue one report under a key of its own."""
        self.call(
            "POST",
            "/api/report-queue/",
            {
                "report_id": ASKED_REPORT,
                "modifier_id": number,
                "params": {"kind": kind, "seconds": seconds},
                "max_attempts": attempts,
                "priority": self.chance.pick((0, 0, 5), "priority", number),
                "idempotency_key": f"report {number}",
            },
        )

    def set_schedule(
        self, number: int, kind: str, *, seconds: tuple[float, float], attempts: int, overlap: str
    ) -> None:
        """Create a schedule with a modifier of its own, in Django: a repeated POST would make a second one."""
        self._created(
            modifier_id=number,
            cron=self.chance.pick(CRONS, "cron", number),
            overlap=overlap,
            catch_up=self.chance.pick(("all", "last", "skip"), "catch up", number),
            params={"kind": kind, "seconds": seconds},
            max_attempts=attempts,
            calendar=self._new_calendar(number),
        )

    def set_daily(self, number: int) -> None:
        """Create a schedule whose firings move to the open day before; later close the next day."""
        number += DAILY
        minute = self.chance.whole(1, 3, "minute", number)
        calendar = BlackoutCalendar.objects.create(name=f"holidays {number}")
        schedule = self._created(
            modifier_id=number, cron=f"{minute} 6 * * *", calendar=calendar, blackout=Blackout.PREVIOUS_DAY
        )
        self.world.sleep(max(0.0, 60.0 * minute + self.chance.between(-30, 150, "closed at", number) - self.world.now))
        tomorrow = instant(0).date() + timedelta(days=1)
        self._until_done(lambda: BlackoutDays.objects.create(calendar=calendar, first_day=tomorrow, last_day=tomorrow))
        self.history.write("holiday", schedule=schedule.pk, minute=minute)
        self.history.tell("person", f"calendar {calendar.name} closes {tomorrow}")

    def _created(self, **fields: Any) -> ReportSchedule:
        """The schedule, once it is saved."""
        mine = ReportSchedule.objects.filter(modifier_id=fields["modifier_id"])

        def create() -> None:
            if not mine.exists():
                ReportSchedule(report_id=SCHEDULED_REPORT, **fields).save()

        self._until_done(create)
        schedule = mine.get()
        shown = {name: getattr(schedule, name) for name in ("modifier_id", "cron", "overlap")}
        self.history.write("schedule", id=schedule.pk, sure=True, deleted=False, enabled=True, **shown)
        self.history.tell("person", f"schedule {schedule.pk} ({schedule.cron}, {schedule.overlap}) is set")
        return schedule

    def _until_done(self, act: Callable[[], object]) -> None:
        """Do something in Django, whole as in the admin, and again while the database does not let it be done."""
        while True:
            try:
                with transaction.atomic():
                    act()
                return
            except (OperationalError, InterfaceError, RowBusy):
                connection.close()
                self.world.sleep(RETRY_SECONDS)

    def _new_calendar(self, number: int) -> BlackoutCalendar | None:
        """A calendar of the schedule's own, for some schedules; it closes some minutes."""
        if not self.chance.happens(0.4, "calendar", number):
            return None
        calendar, new = BlackoutCalendar.objects.get_or_create(name=f"calendar {number}")
        if new and self.chance.happens(0.2, "closed every year", number):
            BlackoutDays.objects.create(calendar=calendar, **A_YEARLY_DAY)
            self._note_calendar(calendar)
        elif new:
            first = self.chance.whole(1, 5, "closed", number)
            self._close_hours(calendar, number, first, self.chance.whole(1, 4, "closed for", number))
        return calendar

    def _close_hours(self, calendar: BlackoutCalendar, number: int, first: int, minutes: int) -> None:
        """Close `minutes` from this minute of the scenario on; note all that the calendar closes."""
        start = instant(60.0 * first)
        end = instant(60.0 * (first + minutes))
        hours = BlackoutHours(calendar=calendar, weekday=start.weekday(), start=start.time(), end=end.time())
        self._until_done(hours.save)
        self._note_calendar(calendar)

    def _note_calendar(self, calendar: BlackoutCalendar) -> None:
        closed = [
            (60 * hours.start.hour + hours.start.minute, 60 * hours.end.hour + hours.end.minute)
            for hours in BlackoutHours.objects.filter(calendar=calendar).order_by("pk")
            if hours.end is not None
        ]
        if BlackoutDays.objects.filter(calendar=calendar).exists():
            closed.append((0, 24 * 60))
        modifier = int(calendar.name.removeprefix("calendar "))
        self.history.write("calendar", modifier_id=modifier, closed=closed)
        self.history.tell("person", f"calendar {modifier} closes {closed} (minutes of the day)")

    def _edit_calendar(self, number: int) -> None:
        """Open what a calendar closes, or close more."""
        calendars = list(BlackoutCalendar.objects.filter(name__startswith="calendar ").order_by("pk"))
        if not calendars:
            return
        calendar = self.chance.pick(calendars, "which calendar", number)
        hours = BlackoutHours.objects.filter(calendar=calendar).order_by("pk").first()
        if hours is not None and self.chance.happens(0.5, "open", number):
            self._until_done(hours.delete)
            self._note_calendar(calendar)
        else:
            self._close_hours(calendar, number, self.chance.whole(1, 8, "more closed", number), 2)

    def act(self, number: int) -> None:
        """One thing that a person does, chosen by its number."""
        verbs: list[Callable[[int], None]] = [
            *(self._cancel, self._requeue, self._requeue, self._requeue, self._run, self._run, self._run),
            *(self._pause, self._edit, self._edit, self._delete, self._delete, self._edit_calendar),
        ]
        self.chance.pick(verbs, "act", number)(number)

    def _cancel(self, number: int) -> None:
        if (row := self._row(number, "queued", "claimed", "dispatched", "running")) is not None:
            self.call("POST", f"/api/report-queue/{row}/cancel/", {"reason": "a person wants it"})

    def _requeue(self, number: int) -> None:
        statuses = ("succeeded", "failed", "cancelled")
        row = None
        if self.chance.happens(0.6, "beside another", number):
            row = self._found(lambda: self._row(number, *statuses, schedule=self._busiest(1) or 0))
        if row is None:
            row = self._row(number, *statuses)
        if row is not None:
            self.call("POST", f"/api/report-queue/{row}/requeue/", {"reason": "a person wants it"})

    def _run(self, number: int) -> None:
        if (pk := self._schedule(number)) is not None:
            self.call("POST", f"/api/schedules/{pk}/run/")

    def _pause(self, number: int) -> None:
        if (pk := self._schedule(number)) is not None:
            self.call("POST", f"/api/schedules/{pk}/pause/", {"note": "a person wants it"})
            self.world.sleep(self.chance.between(1, 120, "paused", number))
            self.call("POST", f"/api/schedules/{pk}/resume/")

    def _edit(self, number: int) -> None:
        busy = self.chance.happens(0.6, "a busy schedule", number)
        pk = self._found(lambda: self._busiest(2)) if busy else self._schedule(number)
        if pk is None:
            return
        if self.chance.happens(0.6, "edit", number):
            change = {"overlap": self.chance.pick(OVERLAPS, "overlap", number)}
        else:
            change = {"cron": self.chance.pick(CRONS, "new cron", number)}
        self.call("PATCH", f"/api/schedules/{pk}/", change)

    def _delete(self, number: int) -> None:
        if (pk := self._schedule(number)) is not None:
            self.call("DELETE", f"/api/schedules/{pk}/")

    def trouble(self, number: int) -> None:
        """One thing that a stranger does to the database, or a person to a run."""
        kind = self.chance.pick(faults.STRANGERS, "trouble", number)
        name = f"trouble {number}"
        if kind not in self.struck.kinds or not self.struck.active:
            return
        if kind == faults.RUN_TERMINATED:
            self._terminate(number, name)
            return
        if kind == faults.SCHEDULE_LOCKED:
            table, pk = ReportSchedule._meta.db_table, self._schedule(number)
        elif kind == faults.ROW_LOCKED:
            table, pk = ReportQueue._meta.db_table, self._row(number, "queued", "claimed", "dispatched", "running")
        else:
            table, pk = "", self._row(number, "queued")
        if pk is None:
            return
        if table:
            if self.struck.note(name, kind, row=pk if kind == faults.ROW_LOCKED else None):
                self.database.hold(f"SELECT FROM {table} WHERE id = %s FOR UPDATE", [pk])
                seconds = self.chance.between(0.05, 20, "held", number)
                if kind == faults.SCHEDULE_LOCKED:
                    self.locked_until = self.world.now + seconds
                self.world.sleep(seconds)
                self.database.release()
        else:
            self._bring_to_bound(pk, kind, name)

    def _bring_to_bound(self, pk: int, kind: str, name: str) -> None:
        """Bring a queued row's counter to its column's bound, unless somebody has locked the row."""
        field = "generation" if kind == faults.GENERATION_BOUND else "launch_failures"
        most = 2**31 - 1 if field == "generation" else 2**15 - 1
        with transaction.atomic():
            free = ReportQueue.objects.filter(pk=pk, status="queued").select_for_update(skip_locked=True)
            if free.exists() and self.struck.note(name, kind, row=pk, bound=True):
                free.model.objects.filter(pk=pk).update(**{field: most})

    def _terminate(self, number: int, name: str) -> None:
        instance = self.chance.pick(self.instances, "instance", number)
        runs = [record for record in instance.records.values() if record.dagster_run.status not in ENDED]
        if runs:
            run_id = self.chance.pick(runs, "terminate", number).dagster_run.run_id
            if self.struck.note(name, faults.RUN_TERMINATED):
                self.history.write("terminated", run=run_id)
                instance.cancel_run(run_id)

    def _row(self, number: int, *statuses: str, **of: Any) -> int | None:
        rows = list(ReportQueue.objects.filter(status__in=statuses, **of).order_by("pk").values_list("pk", flat=True))
        return self.chance.pick(rows, "row", number) if rows else None

    def _schedule(self, number: int) -> int | None:
        schedules = self.schedules(modifier_id__lt=DAILY)
        return self.chance.pick(schedules, "schedule", number) if schedules else None

    def _busiest(self, least: int) -> int | None:
        """The schedule with the most unfinished reports; None if no schedule has at least so many."""
        rows = ReportQueue.objects.unfinished().filter(schedule__modifier_id__lt=DAILY).order_by()
        counts = rows.values("schedule").annotate(rows=Count("pk")).filter(rows__gte=least)
        return counts.order_by("-rows", "schedule").values_list("schedule", flat=True).first()

    def _found(self, look: Callable[[], int | None]) -> int | None:
        """What a person who looks again and again finds; None if it does not come before the faults end."""
        while (found := look()) is None and self.struck.active:
            self.world.sleep(LOOK_SECONDS)
        return found

    def schedules(self, **of: Any) -> list[int]:
        """The ids of all schedules, or of those with these values."""
        return list(ReportSchedule.objects.filter(**of).order_by("pk").values_list("pk", flat=True))


def kinds_of_reports(chance: Chance, number: int, share_bad: float) -> str:
    """The kind of a report, by its number."""
    return chance.pick(BAD, "bad", number) if chance.happens(share_bad, "is bad", number) else OK
