"""The scheduler is killed in its passes, and afterwards every instant of every schedule must be there once."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from datetime import datetime, timedelta

import psycopg

from tools.chaos import points
from tools.chaos.system import SCHEDULER, System, wait_until

BEHIND_MINUTES = 3
SCHEDULES = 2
MINUTE = timedelta(minutes=1)


class SchedulerRounds:
    """Schedules that fire each minute, set back so that a pass has to catch up."""

    def __init__(self, system: System, chance: random.Random) -> None:
        self._system = system
        self._chance = chance
        self._first: dict[int, datetime] = {}

    def kill_in_a_pass(self, *, blocked: bool) -> None:
        """One scheduler's life: it finds due schedules and dies, `blocked` in its insert, or at any moment."""
        with psycopg.connect(self._system.url) as connection:
            if blocked:  # its pass comes to the table that it wants to insert into, and no further
                connection.execute("LOCK TABLE reportqueue_reportqueue IN SHARE ROW EXCLUSIVE MODE")
            self._set_back()
            self._system.scheduler.start()
            with suppress(TimeoutError):
                wait_until(lambda: self._sessions(blocked), 20, "the scheduler")
                if not blocked:
                    time.sleep(self._chance.uniform(0, 0.12))
                self._system.ledger.fault(points.SCHEDULER_KILLED, [])
            self._system.scheduler.kill()

    def finish(self) -> list[int]:
        """Let a last scheduler catch up; the rows. Writes what is missing or double to the ledger."""
        self._system.scheduler.start()
        with suppress(TimeoutError):
            wait_until(self._caught_up, 60, "the scheduler")
        self._system.scheduler.kill()
        rows: list[int] = []
        for schedule, first in self._first.items():
            rows += self._check(schedule, first)
        return rows

    def _set_back(self) -> None:
        for _ in range(SCHEDULES):
            made = self._system.call(
                "POST",
                "/api/schedules/",
                {
                    "report_id": 2,
                    "modifier_id": len(self._first),
                    "cron": "* * * * *",
                    "max_attempts": 100,
                    "params": {"seconds": 0.05},
                },
            )
            schedule = made["schedule_id"]
            self._first[schedule] = self._system.query(
                "UPDATE reportqueue_reportschedule"
                " SET next_run_at = date_trunc('minute', now()) - %s * interval '1 min'"
                " WHERE id = %s RETURNING next_run_at",
                BEHIND_MINUTES - 1,
                schedule,
            )[0]["next_run_at"]

    def _sessions(self, blocked: bool) -> bool:
        return bool(
            self._system.query(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND (wait_event_type = 'Lock' OR NOT %s)",
                SCHEDULER,
                blocked,
            )
        )

    def _caught_up(self) -> bool:
        return not self._system.query(
            "SELECT 1 FROM reportqueue_reportschedule WHERE enabled AND next_run_at <= now() AND id = ANY(%s)",
            list(self._first),
        )

    def _check(self, schedule: int, first: datetime) -> list[int]:
        planned = self._system.query(
            "SELECT next_run_at, next_run_at > now() AS caught_up FROM reportqueue_reportschedule WHERE id = %s",
            schedule,
        )[0]
        self._system.query(
            "UPDATE reportqueue_reportschedule SET enabled = false, next_run_at = NULL WHERE id = %s", schedule
        )
        found = self._system.query(
            "SELECT id, trigger_time FROM reportqueue_reportqueue WHERE schedule_id = %s", schedule
        )
        instants = [row["trigger_time"] for row in found]
        if not planned["caught_up"]:
            self._problem("stuck", f"schedule {schedule} did not catch up: {planned['next_run_at']}")
        expected, at = set(), first
        while at < planned["next_run_at"]:
            expected.add(at)
            at += MINUTE
        if missing := expected - set(instants):
            self._problem("lost", f"schedule {schedule} has no row for {sorted(missing)}")
        if len(instants) > len(set(instants)) or set(instants) - expected:
            self._problem("twice", f"schedule {schedule}: {sorted(instants)} where {sorted(expected)} were due")
        return [row["id"] for row in found]

    def _problem(self, verdict: str, text: str) -> None:
        self._system.ledger.write("problem", point=points.SCHEDULER_KILLED, verdict=verdict, text=text)
