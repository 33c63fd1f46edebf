"""`manage.py enqueue_due_reports`, as a person and a process manager use it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg.errors import ReadOnlySqlTransaction

from reportqueue import database, locks, schedules
from reportqueue.management.commands import enqueue_due_reports
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
from reportqueue.wakeup.scheduler import ScheduleWatch
from tests.conftest import minutes_ago

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("enqueue_due_reports", *arguments, stdout=out)
    return out.getvalue()


def test_one_pass_says_what_it_did(make_schedule, make_row):
    make_schedule(next_run_at=timezone.now().replace(second=0, microsecond=0))
    make_row(status=Status.RUNNING, lease_expires_at=minutes_ago(1))
    said = run()
    assert "1 enqueued" in said
    assert "1 expired rows queued again" in said
    assert "0 enqueued" in run()


def test_a_dry_run_lists_the_firings_with_both_clocks_and_changes_nothing(make_schedule):
    due = timezone.now().replace(second=0, microsecond=0)
    schedule = make_schedule(report_id=17, timezone="Asia/Kolkata", next_run_at=due)
    said = run("--dry-run")
    assert f"{due:%Y-%m-%d %H:%M:%SZ}" in said
    assert "Asia/Kolkata" in said
    assert "report 17, modifier 2" in said
    assert "1 due; nothing was changed." in said
    assert not ReportQueue.objects.exists()
    schedule.refresh_from_db()
    assert schedule.next_run_at == due


def test_a_dry_run_passes_over_a_broken_schedule(make_schedule):
    make_schedule(next_run_at=timezone.now().replace(second=0, microsecond=0))
    broken = make_schedule(report_id=66)
    ReportSchedule.objects.filter(pk=broken.pk).update(cron="every day", next_run_at=minutes_ago(5))
    said = run("--dry-run")
    assert "1 due" in said
    assert f"schedule {broken.pk}" in said


@pytest.mark.parametrize(
    "wrong", [["--interval", "0"], ["--interval", "soon"], ["--interval", "nan"], ["--loop", "--dry-run"], ["--often"]]
)
def test_wrong_arguments_are_refused(wrong: list[str]):
    with pytest.raises(CommandError):
        run(*wrong)


def database_url() -> str:
    """Of the test's own database, for another process."""
    settings = connection.settings_dict
    options = {"host": settings["HOST"], "port": settings["PORT"]}
    user = quote(settings["USER"]) + (f":{quote(settings['PASSWORD'])}" if settings["PASSWORD"] else "")
    given = urlencode({name: value for name, value in options.items() if value})
    return f"postgresql://{user}@/{settings['NAME']}?{given}"


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process of its own; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "enqueue_due_reports", *arguments],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url()},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    patience = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < patience, what
        time.sleep(0.02)


def listens() -> bool:
    """Whether a scheduler waits: its connection is idle, and its last statement was the look for bulk actions."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid() "
            "AND state = 'idle' AND query LIKE '%%reportqueue_bulkaction%%'"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_waiting_loop_is_woken_by_a_change_enqueues_at_the_instant_and_ends_on_sigterm():
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *")
    schedule.save()
    # It would sleep for an hour: only the change can wake it, and only the instant that is due then.
    with command("--loop", "--interval", "3600") as loop:
        until(listens, loop, "the loop does not wait")
        due = timezone.now() + timedelta(seconds=1.5)
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=due)
        until(ReportQueue.objects.exists, loop, "nothing was enqueued")
        assert ReportQueue.objects.get().created_at >= due
        until(listens, loop, "the loop does not wait again")
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(timeout=10) == 0


@pytest.mark.django_db(transaction=True)
def test_a_loop_whose_connection_is_lost_listens_again():
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *")
    schedule.save()
    with command("--loop", "--interval", "3600") as loop:
        until(listens, loop, "the loop does not wait")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
        until(listens, loop, "the loop does not wait again")
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now())
        until(ReportQueue.objects.exists, loop, "nothing was enqueued")


@contextmanager
def pauses(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[list[float]]:
    """The loop's waits in seconds, none of which is waited for; the loop ends after `count` of them."""
    waited: list[float] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def wait(watch: ScheduleWatch, seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == count:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ScheduleWatch, "wait", wait)
    try:
        yield waited
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def locked_elsewhere(sql: str, free: threading.Event) -> threading.Thread:
    """Lock rows by a statement of another connection, until `free` is set."""
    held = threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(sql)
                held.set()
                assert free.wait(60)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    return thread


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("overlap", ["allow", "queue_one"])
@pytest.mark.parametrize("others", ["none", "soon", "later"])
def test_a_loop_does_not_spin_while_a_due_schedule_is_locked_by_another_transaction(
    monkeypatch: pytest.MonkeyPatch, overlap: str, others: str
):
    """The schedule's row is locked, or the report that its next one would wait for."""
    monkeypatch.setattr(enqueue_due_reports, "PUT_OFF_SECONDS", 100.0)
    ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *", overlap=overlap).save()
    schedule = ReportSchedule.objects.get()
    if overlap == "queue_one":
        schedules.run_now(schedule.pk)
    ReportSchedule.objects.update(next_run_at=minutes_ago(1))
    other = {"none": None, "soon": minutes_ago(-1), "later": minutes_ago(-60)}
    if other[others]:
        ReportSchedule(report_id=2, modifier_id=2, cron="0 0 1 1 *").save()
        ReportSchedule.objects.filter(report_id=2).update(next_run_at=other[others])
    queued = ReportQueue.objects.count()
    lock = {
        "allow": "SELECT 1 FROM reportqueue_reportschedule WHERE report_id = 1 FOR UPDATE",
        "queue_one": "SELECT 1 FROM reportqueue_reportqueue FOR UPDATE",
    }
    free = threading.Event()
    thread = locked_elsewhere(lock[overlap], free)
    try:
        with pauses(monkeypatch, 3) as waited:
            run("--loop", "--interval", "3600")
    finally:
        free.set()
        thread.join()
    assert ReportQueue.objects.filter(report_id=1).count() == queued
    if others == "soon":
        assert all(1 < seconds <= 60 for seconds in waited), "until the other one's instant, and no longer"
    else:
        assert waited == [100.0] * 3
    with pauses(monkeypatch, 1) as waited:
        run("--loop", "--interval", "3600")
    assert ReportQueue.objects.filter(report_id=1).count() == queued + 1, "once it is free, its firing is queued"
    assert waited[0] == {"none": 3600, "soon": pytest.approx(30, abs=30), "later": pytest.approx(3600, abs=60)}[others]


@pytest.mark.django_db(transaction=True)
def test_a_pass_that_is_asked_to_end_finishes_its_batch_and_no_other(monkeypatch: pytest.MonkeyPatch):
    for n in range(6):
        ReportSchedule(report_id=n, modifier_id=2, cron="0 0 1 1 *").save()
    ReportSchedule.objects.update(next_run_at=minutes_ago(1))
    asked = iter([False, True])
    assert schedules.enqueue_due(batch=4, stopping=lambda: next(asked)).enqueued == 4
    assert ReportQueue.objects.count() == 4
    assert schedules.enqueue_due(batch=4).enqueued == 2


@pytest.mark.django_db(transaction=True)
def test_killed_anywhere_in_a_pass_every_instant_is_enqueued_once():
    count = 6_000
    ReportSchedule.objects.bulk_create(
        ReportSchedule(
            report_id=n,
            modifier_id=2,
            cron=f"{n % 60} * * * *",
            next_run_at=timezone.now().replace(minute=n % 60, second=0, microsecond=0) - timedelta(hours=2),
            plan_needed=False,
            overlap=("allow", "queue_one", "skip")[n % 3],
        )
        for n in range(count)
    )
    expected = {
        (schedule.pk, instant)
        for schedule in ReportSchedule.objects.all()
        for instant in schedule.timing().firings(schedule.next_run_at - timedelta(seconds=1), timezone.now())
    }
    killed = 0
    began: set[int] = set()
    while (made := ReportQueue.objects.count()) < len(expected) and killed < 40:
        with command() as process:
            until(lambda made=made: ReportQueue.objects.count() > made, process, "nothing was enqueued")
            began.add(made)
            time.sleep(random.uniform(0, 0.15))
            process.kill()
            killed += 1
    schedules.enqueue_due()
    rows = list(ReportQueue.objects.values_list("schedule_id", "trigger_time"))
    assert len(rows) == len(set(rows))
    assert expected <= set(rows)
    assert len(began) > 1, "every kill came after the end"
    assert not ReportSchedule.objects.filter(next_run_at__lte=timezone.now() - timedelta(minutes=1)).exists()


@pytest.mark.parametrize("reason", [None, ReadOnlySqlTransaction()], ids=["away", "read-only"])
def test_the_loop_says_why_it_tries_again(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, settings: Any, reason: Exception | None
):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_THREADS": 0}  # their connection would stay open

    def fail(self: enqueue_due_reports.Command, stopping: Callable[[], bool]) -> float:
        signal.raise_signal(signal.SIGTERM)  # it ends after this pass
        raise OperationalError("cannot be done") from reason

    monkeypatch.setattr(enqueue_due_reports.Command, "_pass_and_pause", fail)
    monkeypatch.setattr(database, "close", lambda: None)  # the test's own transaction stays
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        call_command("enqueue_due_reports", "--loop")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = locks.NO_ANSWER if reason is None else locks.READ_ONLY
    assert f"{said} Trying again: cannot be done" in caplog.messages
