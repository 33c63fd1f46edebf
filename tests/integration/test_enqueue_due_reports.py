"""`manage.py enqueue_due_reports`, as a person and a process manager use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
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


@pytest.mark.django_db(transaction=True)
def test_the_loop_enqueues_at_the_instant_and_ends_on_sigterm():
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *")
    schedule.save()
    settings = connection.settings_dict
    url = f"postgresql://{settings['USER']}:{settings['PASSWORD']}@/{settings['NAME']}?host={settings['HOST']}"
    if settings["PORT"]:
        url = (
            f"postgresql://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}"
            f"/{settings['NAME']}"
        )
    loop = subprocess.Popen(
        [sys.executable, "manage.py", "enqueue_due_reports", "--loop", "--interval", "0.2"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": url},
    )
    try:
        ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=minutes_ago(0))
        until = time.monotonic() + 30
        while not ReportQueue.objects.exists():
            assert loop.poll() is None, "the loop ended"
            assert time.monotonic() < until, "nothing was enqueued"
            time.sleep(0.05)
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(timeout=10) == 0
    finally:
        loop.kill()
        loop.wait()
