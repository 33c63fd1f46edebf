"""`manage.py report_queue`: what it shows, what it changes, and its exit codes."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from reportqueue import bulk, queue
from reportqueue.models import BulkAction, Report, ReportQueue
from reportqueue.states import Status
from tests.conftest import build_row, minutes_ago

pytestmark = pytest.mark.django_db


def run(*arguments: Any) -> tuple[int, str, str]:
    """The exit code, and what is said on both streams."""
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command("report_queue", *map(str, arguments), stdout=out, stderr=err)
    except CommandError as error:
        code = error.returncode
        err.write(str(error))
    except SystemExit as end:
        code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_the_status_of_a_queue_that_moves():
    queue.pause(route="finance", by="ana", note="month end")
    code, said, _ = run("status")
    assert code == 0
    assert "due: 0\n" in said
    assert "by ana: month end" in said
    assert said.endswith("moving\n")


def test_a_queue_that_nobody_claims_from_has_stalled():
    build_row(available_at=minutes_ago(60), trigger_time=minutes_ago(60))
    code, said, _ = run("status")
    assert code == 1
    assert "! Nobody claims reports" in said
    assert said.endswith("stalled\n")


def test_rows_are_listed_by_the_name_of_their_report():
    Report(report_id=7, name="Weather").save()
    row, other = build_row(report_id=7), build_row(report_id=8)
    code, said, _ = run("list")
    assert code == 0
    assert f"#{row.pk} " in said
    assert "Weather (7), modifier" in said
    assert str(other.pk) in said
    assert str(other.pk) not in run("list", "--report", "weather")[1]
    assert run("list", "--report", 9)[1] == "No rows match.\n"


def test_a_row_is_shown_with_its_attempts():
    row = build_row(status=Status.FAILED, error="ZeroDivisionError")
    code, said, _ = run("show", row.pk)
    assert code == 0
    assert "  status: failed\n" in said
    assert run("show", row.pk + 1)[0] == 1


def test_failed_rows_are_requeued_and_the_reason_is_kept():
    failed = [build_row(status=Status.FAILED, report_id=7) for _ in range(3)]
    kept = [build_row(status=Status.FAILED, report_id=8), build_row(status=Status.SUCCEEDED, report_id=7)]
    code, said, _ = run("requeue", "--report", 7, "--dry-run")
    assert (code, said) == (0, "3 of 3 rows that match would be changed; nothing was changed.\n")
    code, said, _ = run("requeue", "--report", 7, "--reason", "fixed")
    assert (code, said) == (0, "requeue: 3 queued.\n")
    rows = ReportQueue.objects.filter(pk__in=[row.pk for row in failed])
    assert {row.status for row in rows} == {Status.QUEUED}
    assert all(row.error.endswith("with manage.py: fixed") for row in rows)
    assert not ReportQueue.objects.filter(pk__in=[row.pk for row in kept], status=Status.QUEUED).exists()


def test_what_is_refused_is_counted_and_the_exit_code_says_so():
    row, ended = build_row(), build_row(status=Status.SUCCEEDED)
    code, said, errors = run("cancel", row.pk, ended.pk)
    assert (code, said) == (1, "cancel: 1 cancelled.\n")
    assert errors == f"1 refused, first #{ended.pk}: A succeeded report cannot be cancelled.\n"


def test_a_running_report_is_asked_to_stop():
    row = build_row(status=Status.RUNNING)
    assert run("cancel", row.pk)[1] == "cancel: 1 asked to stop.\n"


def test_without_a_filter_nothing_is_done():
    build_row()
    code, _, errors = run("cancel")
    assert code == 2
    assert errors.startswith("Say which rows: name some, give a filter such as --report, or --all")
    assert run("cancel", "--all")[1] == "cancel: 1 cancelled.\n"


def test_what_is_paused_is_resumed():
    assert "Report 7 is paused since" in run("pause", "--report", 7, "--note", "broken")[1]
    assert len(queue.paused()) == 1
    assert run("resume", "--report", 7) == (0, "Resumed.\n", "")
    assert run("resume", "--report", 7)[1] == "It was not paused.\n"
    Report(report_id=9, name="Weather").save()
    run("pause", "--report", "weather")
    assert [pause.report_id for pause in queue.paused()] == [9]


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "--report", "nothing"),
        ("pause", "--note", "x" * 1_001),
        ("list", "--status", "lost"),
        ("list", "--route", "A"),
        ("list", "--due-after", "2026-12-01"),
        ("requeue", "--report", "x" * 101),
        ("pause", "--route", "a", "--report", "1"),
        ("unknown",),
    ],
)
def test_what_makes_no_sense_has_exit_code_2(arguments: tuple[str, ...]):
    with pytest.raises((CommandError, SystemExit)) as refused:
        call_command("report_queue", *arguments, stdout=StringIO(), stderr=StringIO())
    error = refused.value
    assert getattr(error, "returncode", getattr(error, "code", None)) in (1, 2)
    assert not queue.paused()


def test_with_background_a_bulk_action_is_started_with_the_same_rows():
    Report(report_id=7, name="Weather").save()
    row, other = build_row(status=Status.FAILED, report_id=7), build_row(status=Status.FAILED, report_id=8)
    options = ("--report", "weather", "--due-after", "2020-01-01T00:00:00Z", "--route", "default", "--reason", "fixed")
    code, said, _ = run("requeue", *options, "--background")
    action = BulkAction.objects.get()
    assert (code, said) == (0, f"Bulk action {action.pk} is started: 1 rows.\n")
    assert action.filters == {
        "status": ["failed"],
        "route": ["default"],
        "report_id": 7,
        "trigger_time_after": "2020-01-01T00:00:00Z",
    }
    row.refresh_from_db()
    assert row.status == Status.FAILED
    bulk.step(1)
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.status, other.status) == (Status.QUEUED, Status.FAILED)
    assert run("requeue", row.pk, "--background")[0] == 2
    assert run("cancel", "--background")[0] == 2
    assert run("cancel", "--all", "--background")[0] == 0
    assert BulkAction.objects.latest("pk").filters == {"status": ["queued"]}


def test_bulk_actions_are_listed_shown_and_ordered():
    build_row(status=Status.FAILED)
    action = bulk.start("requeue", {"status": "failed"}, reason="fixed", by="ana")
    assert "paused" in run("bulk", "pause", action.pk)[1]
    assert run("bulk", "list")[1] == f"#{action.pk:<8} requeue  paused     0 of 1 rows done, 0 refused\n"
    assert "waiting" in run("bulk", "resume", action.pk)[1]
    BulkAction.objects.update(created_at=minutes_ago(2), worked_at=minutes_ago(1))
    _, said, _ = run("bulk", "show", action.pk)
    assert "by ana fixed\n" in said
    assert "  status: Failed\n" in said
    assert "waits for the scheduler (manage.py enqueue_due_reports --loop)\n" in said
    bulk.step(1)
    code, _, errors = run("bulk", "stop", action.pk)
    assert (code, errors) == (1, "A bulk action that has finished cannot be stopped.")
    assert f"  undoes bulk action {action.pk}\n" in run("bulk", "undo", action.pk)[1]
    assert run("bulk", "show", 10**6)[0] == 1
