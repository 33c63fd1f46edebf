"""`manage.py report_queue`: what it shows, what it changes, and its exit codes."""

from __future__ import annotations

import csv
import json
import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from reportqueue import bulk, queue, triggers
from reportqueue.models import BulkAction, Report, ReportQueue, WebhookSource
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import build_row, build_schedule, minutes_ago

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
    assert f"#{other.pk} " in said
    assert f"#{other.pk} " not in run("list", "--report", "weather")[1]
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
    named = ", ".join(f"#{row.pk}" for row in failed)
    assert (code, said) == (0, f"would requeue 3 of 3 failed rows: {named}; nothing was changed.\n")
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
    assert errors == f"1 refused (#{ended.pk}): A succeeded report cannot be cancelled.\n"


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


def test_a_pause_is_said_once():
    queue.pause(route="finance", by="ana", note="month end")
    assert run("status")[1].count("Route finance is paused") == 1


def test_a_second_cancel_says_that_it_was_cancelled_already():
    row = build_row()
    run("cancel", row.pk)
    assert run("cancel", row.pk) == (0, f"cancel: 1 was cancelled already (#{row.pk}).\n", "")
    code, said, _ = run("cancel", row.pk, "--dry-run")
    assert code == 0
    assert said == f"would cancel 0 of 1 row; nothing was changed.\nalready cancelled: #{row.pk}.\n"


@pytest.mark.parametrize("verb", ["requeue", "cancel"])
def test_a_dry_run_refuses_what_the_run_refuses(verb: str):
    rows = [build_row(status=status) for status in Status]
    pks = [row.pk for row in rows]
    code, said, errors = run(verb, *pks, "--dry-run")
    assert not any(row.status != ReportQueue.objects.get(pk=row.pk).status for row in rows)
    really, _, refused = run(verb, *pks)
    assert code == really == 1
    assert errors.replace(" would be refused ", " refused ").splitlines() == refused.splitlines()
    taken = {"requeue": 3, "cancel": 4}[verb]
    assert said.startswith(f"would {verb} {taken} of 8 rows: #")
    assert ("(1 running: asked to stop)" in said) is (verb == "cancel")


def test_a_dry_run_names_the_first_rows_and_counts_the_others():
    rows = [build_row(status=Status.FAILED) for _ in range(13)]
    named = ", ".join(f"#{row.pk}" for row in rows[:10])
    assert f"would requeue 13 of 13 failed rows: {named} and 3 more; nothing" in run("requeue", "--all", "--dry-run")[1]


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_if_nothing_matches_the_status_that_was_meant_is_named(options: tuple[str, ...]):
    build_row(status=Status.SUCCEEDED, report_id=7)
    code, said, _ = run("requeue", "--report", 7, *options)
    assert code == 0
    assert "no failed rows match; --status chooses others" in said
    assert "no cancelled rows match." in run("requeue", "--report", 7, "--status", "cancelled")[1]


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_rows_that_are_not_there_are_named(options: tuple[str, ...]):
    row, other = build_row(status=Status.FAILED), build_row(status=Status.FAILED, report_id=8)
    code, said, errors = run("requeue", row.pk, other.pk, 99_999_998, 99_999_999, "--report", 1, *options)
    assert code == 1
    assert errors == (
        f"There are no rows #99999998, #99999999.\nNot done, since the filters do not match: #{other.pk}.\n"
    )
    assert ("would requeue 1 of 1 row" in said) if options else (said == "requeue: 1 queued.\n")
    assert run("requeue", 99_999_999, *options)[0] == 1


def test_named_rows_are_done_whatever_their_status():
    row = build_row(status=Status.SUCCEEDED)
    assert run("requeue", row.pk)[1] == "requeue: 1 queued.\n"


def test_a_second_pause_says_who_has_paused_it():
    queue.pause(by="ana", note="month end")
    code, said, _ = run("pause", "--note", "again")
    assert code == 0
    assert said.startswith("It was paused already: The queue is paused since ")
    assert said.endswith(" by ana: month end. Its note stays: resume it first to give another one.\n")
    assert [pause.note for pause in queue.paused()] == ["month end"]


def test_a_pause_of_what_nobody_knows_is_doubted():
    assert "has the route 'fin'. Is it written correctly?" in run("pause", "--route", "fin")[2]
    assert "has the report 77. Is it the right number?" in run("pause", "--report", 77)[2]
    assert len(queue.paused()) == 2, "it is done all the same"


@pytest.mark.parametrize("known", ["row", "leased", "catalogue", "consumer"])
def test_a_pause_of_a_known_route_is_not_doubted(known: str):
    if known in ("row", "leased"):
        build_row(route="finance", status=Status.QUEUED if known == "row" else Status.RUNNING)
    elif known == "catalogue":
        Report(report_id=7, name="Weather", route="finance").save()
    else:
        triggers.saw(Pattern.QUEUE, "lane", routes=["finance", "other"])
    assert run("pause", "--route", "finance")[2] == ""
    assert run("pause", "--route", "default")[2] == ""


@pytest.mark.parametrize("known", ["row", "schedule", "catalogue", "source"])
def test_a_pause_of_a_known_report_is_not_doubted(known: str):
    if known == "row":
        build_row(report_id=7, status=Status.SUCCEEDED)
    elif known == "schedule":
        build_schedule(report_id=7)
    elif known == "catalogue":
        Report(report_id=7, name="Weather").save()
    else:
        WebhookSource.objects.create(name="shop", report_id=7, modifier_id=2)
    assert run("pause", "--report", 7)[2] == ""


def test_more_is_said_only_if_there_is_more():
    build_row()
    assert run("list", "--limit", 1)[2] == ""
    build_row()
    assert run("list", "--limit", 1)[2] == "The newest 1; more with --limit.\n"


def test_the_list_has_attempts_lateness_and_errors_in_120_columns():
    Report(report_id=7, name="W" * 90).save()
    due = minutes_ago(10)
    fields = {"trigger_time": due, "available_at": due, "started_at": due + timedelta(minutes=2), "attempt": 3}
    error = "Traceback:\n  File x\nValueError: the source of the figures does not answer " + "and again " * 30
    row = build_row(status=Status.FAILED, error=error, **fields)
    build_row(status=Status.FAILED, report_id=7, error=error)
    build_row(trigger_time=minutes_ago(-5), route="finance")
    build_row(status=Status.CANCELLED)
    said = run("list")[1]
    lines = said.splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].split() == ["row", "status", "due", "(UTC)", "late", "tries", "report,", "modifier"]
    (line,) = (line for line in lines if line.startswith(f"#{row.pk} "))
    assert re.search(r" 2 min +3/3 +1, modifier 2: ValueError: the source of the figures does", line)
    assert line.endswith("…")
    assert re.search(r" in (5 min|4 min 59 s) +0/3 +1, modifier 2, route finance$", said, re.MULTILINE)
    assert "never ran" in said


def test_the_list_is_given_to_programs():
    Report(report_id=7, name="Weather").save()
    row = build_row(report_id=7, error="a, b", status=Status.FAILED)
    (found,) = json.loads(run("list", "--format", "json")[1])
    assert (found["queue_id"], found["report_name"], found["attempt"], found["error"]) == (row.pk, "Weather", 1, "a, b")
    assert found["trigger_time"].endswith("Z")
    assert found["late_seconds"] == 0
    (line,) = csv.DictReader(StringIO(run("list", "--format", "csv")[1]))
    assert (line["queue_id"], line["error"]) == (str(row.pk), "a, b")
    assert json.loads(run("list", "--report", 9, "--format", "json")[1]) == []


@pytest.mark.parametrize(
    ("status", "fields", "label"),
    [
        (Status.QUEUED, {}, "reason"),
        (Status.QUEUED, {"attempt": 1}, "last error"),
        (Status.FAILED, {}, "error"),
        (Status.CANCELLED, {"attempt": 1}, "reason"),
        (Status.SKIPPED, {}, "reason"),
        (Status.RUNNING, {"cancel_requested": True}, "reason"),
    ],
)
def test_a_reason_is_not_called_an_error(status: Status, fields: dict[str, Any], label: str):
    row = build_row(status=status, error="for this", **fields)
    assert f"  {label}: for this\n" in run("show", row.pk)[1]


def test_a_row_is_shown_with_json_and_the_generation_of_each_attempt():
    row = build_row(status=Status.FAILED, params={"month": "2026-11", "all": True})
    row.attempts.update(generation=4, error="first line\n" + "word " * 100)
    said = run("show", row.pk)[1]
    assert '  params: {"all": true, "month": "2026-11"}\n' in said
    assert "  attempt 1 (generation 4): failed, run " in said
    assert said.endswith("word word…\n")


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
