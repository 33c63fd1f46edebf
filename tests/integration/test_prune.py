"""Pruning deletes what has ended long enough ago, and nothing else."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import FINAL, Status
from tests.concurrency import at_once
from tests.conftest import RowFactory, build_row, minutes_ago


def prune(*arguments: str) -> str:
    out = StringIO()
    call_command("prune_report_queue", *arguments, stdout=out)
    return out.getvalue()


def test_only_rows_that_ended_long_enough_ago_go_with_their_attempts(make_row: RowFactory):
    old = {"trigger_time": minutes_ago(600)}
    for status in Status:
        make_row(status=status, **old, **({"finished_at": minutes_ago(120)} if status in FINAL else {}))
    recent = make_row(status=Status.SUCCEEDED, finished_at=minutes_ago(50), **old)
    assert "4 finished reports deleted" in prune("--older-than", "1h")
    left = ReportQueue.objects.exclude(pk=recent.pk)
    assert {row.status for row in left} == {Status.QUEUED, Status.CLAIMED, Status.DISPATCHED, Status.RUNNING}
    assert ReportAttempt.objects.count() == 2
    assert "0 finished reports deleted" in prune("--older-than", "1h")


def test_the_newest_of_each_report_and_modifier_are_kept(make_row: RowFactory):
    long_ago = minutes_ago(6000)
    kept = set()
    for modifier in (1, 2):
        for age in range(5):
            row = make_row(
                status=Status.SUCCEEDED, modifier_id=modifier, trigger_time=minutes_ago(age), finished_at=long_ago
            )
            if age < 2:
                kept.add(row.pk)
    twins = [
        make_row(status=Status.FAILED, modifier_id=3, trigger_time=long_ago, finished_at=long_ago) for _ in range(3)
    ]
    kept |= {row.pk for row in twins[1:]}
    assert "7 finished reports deleted" in prune("--older-than", "1d", "--keep", "2")
    assert set(ReportQueue.objects.values_list("pk", flat=True)) == kept


def test_batches_reach_every_row_and_show_progress(make_row: RowFactory):
    for _ in range(5):
        make_row(status=Status.SUCCEEDED, finished_at=minutes_ago(120))
    said = prune("--older-than", "1h", "--batch", "2")
    assert "2 deleted so far" in said
    assert "5 finished reports deleted" in said
    assert not ReportQueue.objects.exists()


def test_a_dry_run_counts_and_deletes_nothing(make_row: RowFactory):
    make_row(status=Status.FAILED, finished_at=minutes_ago(120))
    assert "1 finished reports would be deleted" in prune("--older-than", "1h", "--dry-run")
    assert ReportQueue.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_left():
    held = build_row(status=Status.FAILED, finished_at=minutes_ago(120))
    build_row(status=Status.FAILED, finished_at=minutes_ago(120))
    with transaction.atomic():
        ReportQueue.objects.select_for_update().get(pk=held.pk)
        assert "1 finished reports deleted" in at_once([lambda: prune("--older-than", "1h")])[0]
    assert ReportQueue.objects.get() == held


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--older-than", "90"],
        ["--older-than", "-1d"],
        ["--older-than", "99999999d"],
        ["--older-than", "1d", "--keep", "-1"],
        ["--older-than", "1d", "--batch", "0"],
    ],
)
def test_wrong_arguments_are_refused(db: None, wrong: list[str]):
    with pytest.raises(CommandError):
        prune(*wrong)


def test_the_queues_table_is_vacuumed_early(db: None):
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'reportqueue_reportqueue'")
        (options,) = cursor.fetchone()
    assert {"fillfactor=80", "autovacuum_vacuum_scale_factor=0.01"} <= set(options)
