"""`manage.py enqueue_due_reports`: the scheduler queues the due firings of schedules, and does bulk actions.

It also sends webhooks and alerts.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandParser

from reportqueue import bulk, catalogue, database, locks, measures, modifiers, outbox, queue, schedules, triggers
from reportqueue.clock import database_now
from reportqueue.conf import conf
from reportqueue.models import ReportSchedule
from reportqueue.wakeup.scheduler import ScheduleWatch

logger = logging.getLogger("reportqueue")
DRY_RUN_LIMIT = 1_000
RECONNECT_SECONDS = 1.0
PUT_OFF_SECONDS = 1.0
"""The longest pause after a pass that left due schedules, since another transaction holds them or an error came up."""
BULK_SECONDS = 0.5
"""How long the loop works on bulk actions between two passes. Afterwards it rests for as long."""
BULK_AT_LEAST_SECONDS = 0.05
"""If a schedule is due sooner than this, the bulk actions wait for the next pass."""
BULK_WAITS_SECONDS = 1.0
"""They wait for no longer than this, however soon schedules are due."""
BULK_SECONDS_OF_A_PASS = 10.0
"""How long a single pass works on bulk actions: of an installation whose passes are started by a timer."""
WEBHOOK_SECONDS_OF_A_PASS = 10.0
"""How long it sends webhooks."""


class Command(BaseCommand):
    """Does one pass, or passes until it is stopped with `--loop`; any number of processes may run at once."""

    help = (
        "Puts every due report of the schedules into the queue, one row per schedule and instant, and takes "
        "rows back whose lease has run out. Works on bulk actions and sends webhooks meanwhile. Safe to run several "
        "times at once."
    )

    _bulk_at = -math.inf
    """When it last worked on bulk actions (`time.monotonic()`)."""
    _quiet_until = 0.0
    """Until then (`time.monotonic()`), a standstill and silent consumers are not logged again."""

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--loop", action="store_true", help="go on until SIGTERM or Ctrl-C, awake at each due instant")
        how.add_argument("--dry-run", action="store_true", help="print what is due, change nothing")
        parser.add_argument(
            "--interval",
            type=_seconds,
            default=5.0,
            metavar="SECONDS",
            help="with --loop: look at least this often, for expired leases and schedules changed around Django "
            "(0.1 to 3600, default 5)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run. The exit code is 0 unless a single pass fails."""
        if options["dry_run"]:
            self._dry_run()
        elif options["loop"]:
            with outbox.in_background():
                self._loop(options["interval"])
        else:
            self._pass(quiet=False)
            if changed := bulk.step(BULK_SECONDS_OF_A_PASS).rows:
                self.stdout.write(f"{changed:,} rows changed by bulk actions")
            if conf().webhook_threads and (delivered := outbox.deliver_for(WEBHOOK_SECONDS_OF_A_PASS)):
                self.stdout.write(f"{delivered:,} webhooks delivered")

    def _dry_run(self) -> None:
        found = schedules.preview(DRY_RUN_LIMIT)
        named = ReportSchedule.objects.in_bulk({firing.schedule_id for firing in found.firings})
        catalogue.name_rows(named.values())
        modifiers.name_rows(named.values())
        skipped = 0
        for firing in found.firings:
            schedule = named[firing.schedule_id]
            local = firing.trigger_time.astimezone(ZoneInfo(schedule.timezone))
            skipped += firing.skipped is not None
            self.stdout.write(
                f"{firing.trigger_time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ} ({local:%H:%M} {schedule.timezone})  "
                f"report {catalogue.label(schedule.report_id, schedule.report_name)}, "
                f"modifier {modifiers.label(schedule)}, schedule {schedule.pk}"
                + (f"  {firing.skipped.error}" if firing.skipped else "")
            )
        for pk, error in found.broken:
            self.stdout.write(f"schedule {pk} would be disabled: {error}")
        more = " or more" if len(found.firings) == DRY_RUN_LIMIT else ""
        notes = f", {skipped} to be noted as skipped" if skipped else ""
        self.stdout.write(f"{len(found.firings) - skipped}{more} due{notes}; nothing was changed.")

    def _pass(self, *, quiet: bool, stopping: Callable[[], bool] = lambda: False) -> schedules.Pass:
        rescued = queue.rescue_expired()
        too_late = queue.skip_too_late()
        done = schedules.enqueue_due(stopping=stopping)
        counts = {
            "enqueued": done.enqueued,
            "noted as skipped": done.skipped,
            "newly planned": done.planned,
            "schedules disabled as broken": done.disabled,
            "schedules put off": done.put_off,
            "expired rows queued again": rescued.queued,
            "expired rows ended": rescued.ended,
            "skipped as too late": too_late,
        }
        measures.roll_up_if_due()
        self._warn()
        if not quiet or any(counts.values()):
            said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "enqueued")
            self.stdout.write(f"{database_now():%Y-%m-%d %H:%M:%SZ}  {said}")
        return done

    def _warn(self) -> None:
        """Log a standstill, silent or doubled consumers, and routes that nobody asks for.

        Once per `STALLED_SECONDS` while that lasts.
        """
        if time.monotonic() < self._quiet_until:
            return
        stalled = queue.standstill()
        if found := [*([stalled] if stalled else []), *triggers.troubles()]:
            self._quiet_until = time.monotonic() + conf().stalled_seconds
        for one in found:
            logger.warning("%s", one)

    def _loop(self, interval: float) -> None:
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        with ScheduleWatch() as watch:
            while not stop.is_set():
                pause = interval
                try:
                    watch.listen()
                    pause = min(interval, self._pass_and_pause(stop.is_set))
                except Exception as error:
                    if locks.is_away(error):
                        # The database restarts or is out of reach: waiting for it loses nothing.
                        said = str(error).strip().splitlines()[0]
                        logger.warning("%s Trying again: %s", locks.why_away(error), said)
                        database.close()
                        pause = min(interval, RECONNECT_SECONDS)
                    else:
                        # The process goes on: the other schedules and later passes need it.
                        logger.exception("A pass failed, trying again in %s s.", interval)
                if not stop.is_set():
                    watch.wait(pause)

    def _pass_and_pause(self, stopping: Callable[[], bool]) -> float:
        """Do a pass; return the seconds until the next one has work, which may be infinite."""
        began = database_now()
        done = self._pass(quiet=True, stopping=stopping)
        return self._bulk(self._until_due(began, done), stopping)

    def _until_due(self, began: datetime, done: schedules.Pass) -> float:
        """The seconds until schedules have work again, after a pass that has begun at this instant."""
        due = schedules.next_due()
        longest = math.inf
        if done.put_off or (due is not None and due <= began):
            # The pass left these schedules. Another one at once would leave them too: only the others' instants count.
            longest, due = PUT_OFF_SECONDS, schedules.next_due(after=began)
        if due is None:
            return longest
        return min(longest, max(0.0, (due - database_now()).total_seconds()))

    def _bulk(self, pause: float, stopping: Callable[[], bool]) -> float:
        """Work on bulk actions in the time until schedules are due; return the seconds until the next pass."""
        began = time.monotonic()
        if pause < BULK_AT_LEAST_SECONDS and began - self._bulk_at < BULK_WAITS_SECONDS:
            return pause
        try:
            done = bulk.step(min(BULK_SECONDS, pause), stopping)
        except Exception as error:
            if locks.is_away(error):
                raise
            # The schedules must not wait for the bulk actions.
            logger.exception("The work on bulk actions failed, trying again after the next pass.")
            return pause
        self._bulk_at = time.monotonic()
        if not done.rows and not done.left:
            return pause
        worked = self._bulk_at - began
        left = max(0.0, pause - worked)
        return min(left, worked) if done.left else left


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0.1 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds
