"""`manage.py switch_pattern`: what it says, what it changes, and what it refuses."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from reportqueue import triggers
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule, TriggerPeriod
from reportqueue.patterns import Pattern

pytestmark = pytest.mark.django_db


def switch(*arguments: str) -> str:
    out = StringIO()
    call_command("switch_pattern", *arguments, stdout=out)
    return out.getvalue()


def test_without_arguments_it_says_where_things_stand():
    assert switch() == "Firings belong to queue.\n"


def test_it_hands_over_at_an_instant_and_takes_that_back():
    at = (database_now() + timedelta(hours=1)).replace(microsecond=0)
    said = switch("--to", "cron", "--at", at.isoformat())
    assert said.splitlines() == [
        f"Handed over from queue to cron: every firing at {at:%Y-%m-%d %H:%M:%SZ} and later.",
        "Firings belong to queue.",
        f"From {at:%Y-%m-%d %H:%M:%SZ} on they belong to cron.",
    ]
    assert triggers.pattern_at(at) == Pattern.CRON
    assert switch("--cancel").splitlines()[0] == "Taken back: the hand-over to cron."
    assert triggers.pattern_at(at) == Pattern.QUEUE


def test_a_dry_run_changes_nothing():
    assert switch("--to", "cron", "--dry-run").startswith("Would be handed over from queue to cron")
    assert not TriggerPeriod.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--to", "queue"], "belong to queue already"),
        (["--to", "cron", "--at", "2020-01-01T00:00:00Z"], "has passed"),
        (["--to", "cron", "--at", "2027-01-01T00:00:00"], "is not an instant with its UTC offset"),
        (["--to", "airflow"], "invalid choice"),
        (["--at", "2027-01-01T00:00:00Z"], "go with --to"),
        (["--cancel"], "No hand-over is planned"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], text: str):
    with pytest.raises(CommandError, match=text):
        switch(*arguments)
    assert not TriggerPeriod.objects.exists()


def test_a_schedule_that_sensors_cannot_fire_is_named():
    schedule = ReportSchedule.objects.create(report_id=1, modifier_id=2, interval_seconds=60)
    with pytest.raises(CommandError, match=rf"schedule {schedule.pk} \(interval_seconds\)"):
        switch("--to", "asset")


def test_a_hand_over_of_which_dagster_cannot_be_told_says_so(settings: Any, capsys: pytest.CaptureFixture[str]):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "DAGSTER_URL": "http://127.0.0.1:9"}
    switch("--to", "asset")
    assert "materialize report_cron_schedules there" in capsys.readouterr().err
