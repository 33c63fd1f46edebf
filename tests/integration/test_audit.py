"""Who did what: each door writes in whose name it acts, and the database refuses to change an entry."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client

from reportqueue import audit, bulk, queue, schedules, tokens, triggers, webhooks
from reportqueue.models import (
    AuditEntry,
    BlackoutCalendar,
    BlackoutDays,
    BulkAction,
    Pause,
    Report,
    ReportQueue,
    ReportSchedule,
    WebhookSource,
)
from reportqueue.models.audit import Kind, Via
from reportqueue.patterns import Pattern
from reportqueue.states import Source, Status
from tests.conftest import ClientFactory, build_row, build_schedule, minutes_ago
from tests.integration.test_admin_permissions import staff, text_of

pytestmark = pytest.mark.django_db
QUEUE, SCHEDULES = "/admin/reportqueue/reportqueue/", "/admin/reportqueue/reportschedule/"
AUDIT = "/admin/reportqueue/auditentry/"


def told(**about: Any) -> list[tuple[str, str, str]]:
    """What the audit says: the action, by whom and by which way, the oldest first."""
    found = AuditEntry.objects.filter(**about).order_by("id")
    return [(one.action, one.by, one.via) for one in found]


def test_code_acts_in_nobodys_name_unless_it_says_so():
    row = build_row(status=Status.FAILED)
    queue.requeue(row.pk, reason="once more")
    with audit.acting("nightly job", Via.CODE):
        queue.cancel(row.pk)
    assert told(kind=Kind.ROW) == [("requeue", "", "code"), ("cancel", "nightly job", "code")]
    first = AuditEntry.objects.order_by("id").first()
    assert first is not None
    assert (first.object_id, first.reason) == (str(row.pk), "once more")
    assert audit.actor() == audit.CODE


def test_the_api_acts_in_the_name_of_its_user_and_token(client_with: ClientFactory):
    client = client_with("add_reportqueue", "cancel_reportqueue", "requeue_reportqueue", "view_reportqueue")
    made = client.post("/api/report-queue/", {"report_id": 1, "modifier_id": 2}, format="json").json()
    pk = made["queue_id"]
    assert client.post(f"/api/report-queue/{pk}/cancel/", {"reason": "wrong"}, format="json").status_code == 200
    assert client.post(f"/api/report-queue/{pk}/requeue/", {}, format="json").status_code == 200
    entries = told(kind=Kind.ROW, object_id=str(pk))
    assert [(action, via) for action, _by, via in entries] == [("cancel", "api"), ("requeue", "api")]
    (by,) = {by for _action, by, _via in entries}
    assert by == ReportQueue.objects.get(pk=pk).queued_by != ""
    assert "(token " in by


def test_a_refused_call_leaves_no_name_behind(client_with: ClientFactory):
    client = client_with("cancel_reportqueue")
    assert client.post("/api/report-queue/99/cancel/", {}, format="json").status_code == 404
    assert audit.actor() == audit.CODE


def test_a_page_acts_in_the_name_of_its_person():
    person = staff("view_reportqueue", "requeue_reportqueue", "add_reportqueue", "view_auditentry")
    row = build_row(status=Status.FAILED)
    person.post(f"{QUEUE}{row.pk}/requeue/", {"reason": "the source is back"})
    ((action, by, via),) = told(kind=Kind.ROW)
    assert (action, via) == ("requeue", "page")
    assert by.startswith("user-")
    page = text_of(person.get(f"{QUEUE}{row.pk}/change/"))
    assert "What people have done" in page
    assert "the source is back" in page
    person.post(f"{QUEUE}enqueue/", {"report_id": 1, "modifier_id": 2, "params": "{}", "params_of": ""})
    assert ReportQueue.objects.latest("id").queued_by == by
    assert audit.actor() == audit.CODE


def test_a_command_acts_in_the_name_of_the_systems_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit.getpass, "getuser", lambda: "deploy")
    row = build_row(status=Status.FAILED)
    call_command("report_queue", "requeue", "--all", stdout=StringIO())
    call_command("report_queue", "pause", "--route", "finance", stdout=StringIO())
    assert told(kind=Kind.ROW, object_id=str(row.pk)) == [("requeue", "deploy", "command")]
    assert told(kind=Kind.PAUSE) == [("pause", "deploy", "command")]


def test_a_system_user_without_a_name_is_nobody(monkeypatch: pytest.MonkeyPatch):
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(audit.getpass, "getuser", nobody)
    build_row(status=Status.FAILED)
    call_command("report_queue", "requeue", "--all", stdout=StringIO())
    assert told(kind=Kind.ROW) == [("requeue", "", "command")]


def test_what_is_refused_is_not_told_of():
    row = build_row(status=Status.SKIPPED)
    for call in (queue.requeue, queue.cancel):
        with pytest.raises(Exception, match="cannot be"):
            call(row.pk)
    cancelled = build_row(status=Status.CANCELLED)
    queue.cancel(cancelled.pk)
    assert told() == []


def test_a_running_row_is_asked_to_cancel_and_its_runs_own_cancel_is_not_a_persons():
    row = build_row(status=Status.RUNNING)
    queue.cancel(row.pk, reason="too long")
    queue.cancel(row.pk, lease_token=row.lease_token)
    assert told(kind=Kind.ROW) == [("ask to cancel", "", "code")]


def test_an_edit_says_what_was_before_and_after():
    schedule = build_schedule(cron="0 8 * * *", params={"a": 1})
    schedule.cron, schedule.params = "0 9 * * *", {"a": 2}
    schedule.save()
    schedule.save()
    pk = schedule.pk
    schedules.pause(pk, by="anna", note="closed")
    schedule.refresh_from_db()
    schedule.delete()
    entries = list(AuditEntry.objects.filter(kind=Kind.SCHEDULE, object_id=str(pk)).order_by("id"))
    assert [one.action for one in entries] == ["add", "change", "change", "delete"]
    assert entries[0].changes["cron"] == [None, "0 8 * * *"]
    assert "next_run_at" not in entries[0].changes
    assert entries[1].changes == {"cron": ["0 8 * * *", "0 9 * * *"], "params": [{"a": 1}, {"a": 2}]}
    assert entries[2].changes["enabled"] == [True, False]
    assert entries[2].changes["pause_note"] == ["", "closed"]
    assert entries[3].changes["cron"] == ["0 9 * * *", None]


def test_a_scheduler_that_plans_edits_nothing():
    build_schedule(next_run_at=minutes_ago(1))
    before = len(told())
    call_command("enqueue_due_reports", stdout=StringIO())
    assert ReportQueue.objects.get().queued_by == ""
    assert len(told()) == before


def test_a_claim_that_finds_a_firing_due_is_not_who_asked_for_it(client_with: ClientFactory):
    build_schedule(next_run_at=minutes_ago(1))
    answer = client_with("consume_reportqueue").post("/api/report-queue/claim/", {"consumer": "s"}, format="json")
    assert len(answer.json()["queue"]) == 1
    assert ReportQueue.objects.get().queued_by == ""


def test_run_now_and_backfill_are_told_of_with_their_person():
    schedule = build_schedule(cron="* * * * *")
    with audit.acting("anna", Via.PAGE):
        row = schedules.run_now(schedule.pk, source=Source.ADMIN)
        schedules.backfill(schedule.pk, minutes_ago(5), minutes_ago(3), dry_run=True)
        done = schedules.backfill(schedule.pk, minutes_ago(5), minutes_ago(3))
    assert row.queued_by == "anna"
    entries = list(AuditEntry.objects.filter(by="anna").order_by("id"))
    assert [one.action for one in entries] == ["run now", "backfill"]
    assert entries[1].changes["queued"] == [None, done.enqueued]
    assert set(ReportQueue.objects.filter(source=Source.BACKFILL).values_list("queued_by", flat=True)) == {"anna"}


def test_the_catalogue_calendars_sources_tokens_and_patterns_are_told_of(django_user_model: Any):
    report = Report(report_id=7, name="Weather", max_running=3)
    report.save()
    report.max_running = 5
    report.save()
    calendar = BlackoutCalendar.objects.create(name="Holidays")
    days = BlackoutDays(calendar=calendar, first_day="2026-12-25", last_day="2026-12-26")
    days.save()
    days.delete()
    source = WebhookSource(name="crm", report_id=1, modifier_id=1)
    source.save()
    webhooks.rotate(source)
    issued = tokens.issue(django_user_model.objects.create_user("dagster"), name="prod")
    tokens.revoke([issued.token.pk])
    tokens.revoke([issued.token.pk])
    triggers.hand_over(Pattern.POLLING)
    assert [one[0] for one in told(kind=Kind.REPORT)] == ["add", "change"]
    assert AuditEntry.objects.get(kind=Kind.REPORT, action="change").changes == {"max_running": [3, 5]}
    assert [one[0] for one in told(kind=Kind.CALENDAR)] == ["add", "add days", "delete days"]
    assert [one[0] for one in told(kind=Kind.WEBHOOK)] == ["add", "rotate"]
    rotated = AuditEntry.objects.get(kind=Kind.WEBHOOK, action="rotate")
    assert list(rotated.changes) == ["previous_until"]
    assert rotated.changes["previous_until"][0] is None
    said = str(list(AuditEntry.objects.values()))
    assert not [one for one in (source.seed, source.previous_seed, webhooks.secret(source)) if one in said]
    assert [one[0] for one in told(kind=Kind.TOKEN)] == ["issue", "revoke"]
    assert issued.key not in str(list(AuditEntry.objects.values()))
    assert [one[0] for one in told(kind=Kind.PATTERN)] == ["hand over"]


def test_pauses_are_told_of_once():
    queue.pause(by="anna", note="wrong totals")
    queue.pause(by="otto")
    queue.resume()
    queue.resume()
    assert [one[0] for one in told(kind=Kind.PAUSE, object_id="queue")] == ["pause", "resume"]
    assert not Pause.objects.exists()


def test_what_a_transaction_undoes_was_not_done():
    row = build_row(status=Status.FAILED)
    with transaction.atomic():
        queue.requeue(row.pk)
        transaction.set_rollback(True)
    assert told() == []


@pytest.mark.parametrize(
    "statement", ["UPDATE reportqueue_auditentry SET by = 'x'", "DELETE FROM reportqueue_auditentry"]
)
def test_the_database_refuses_to_change_an_entry(statement: str):
    audit.record("cancel", Kind.ROW, 1)
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEntry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_pruning_deletes_old_entries_alone():
    for _ in range(3):
        audit.record("cancel", Kind.ROW, 1)
    AuditEntry.objects.bulk_create(
        [AuditEntry(action="cancel", via="code", kind="row", object_id="2", at=minutes_ago(90))]
    )
    arguments = ["prune_report_queue", "--older-than", "1w", "--audit-older-than", "1h"]
    out = StringIO()
    call_command(*arguments, "--dry-run", stdout=out)
    assert "1 audit entries would be deleted." in out.getvalue()
    call_command(*arguments, "--batch", "1", stdout=out)
    assert "1 audit entries deleted." in out.getvalue()
    assert AuditEntry.objects.count() == 3
    assert list(queue.prune_audit(older_than=timedelta(hours=1))) == []


def test_long_values_names_and_reasons_are_cut():
    build_schedule(params={"text": "x" * 5_000})
    with audit.acting("y" * 500, Via.API):
        audit.record("cancel", Kind.ROW, 1, label="z" * 900, reason="w" * 5_000)
    entry = AuditEntry.objects.latest("id")
    assert (len(entry.by), len(entry.label), len(entry.reason)) == (150, 200, 1_000)
    added = AuditEntry.objects.get(kind=Kind.SCHEDULE)
    assert len(added.changes["params"][1]) == audit.MAX_VALUE


def test_the_list_is_for_who_may_see_it_and_nobody_changes_it():
    with audit.acting("anna", Via.PAGE):
        audit.record("cancel", Kind.ROW, 7, label="#7: report 1, modifier 2", reason="wrong")
        audit.record("change", Kind.SCHEDULE, 5, changes={"cron": ["a", "<b>"], "note": ["x", None]})
    person = staff("view_auditentry")
    page = person.get(AUDIT)
    assert "&lt;b&gt;" in page.content.decode()
    assert f'href="{QUEUE}7/change/"' in page.content.decode()
    for search, count in (("anna", 2), ("row:7", 1), ("by:anna action:cancel", 1), ("schedule:6", 0), ("otto", 0)):
        assert len(person.get(AUDIT, {"q": search}).context["cl"].result_list) == count, search
    assert len(person.get(AUDIT, {"kind": "row", "via": "page"}).context["cl"].result_list) == 1
    assert len(person.get(AUDIT, {"due_from": "2020-01-01", "due_until": "2020-01-02"}).context["cl"].result_list) == 0
    pk = AuditEntry.objects.latest("id").pk
    for address in (f"{AUDIT}add/", f"{AUDIT}{pk}/delete/"):
        assert person.post(address).status_code == 403
    assert person.post(f"{AUDIT}{pk}/change/", {"by": "otto"}).status_code == 403
    assert staff("view_reportqueue").get(AUDIT).status_code == 403
    assert Client().get(AUDIT).status_code == 302


def test_a_page_shows_the_newest_entries_and_leads_to_all():
    row = build_row()
    for number in range(25):
        audit.record("cancel", Kind.ROW, row.pk, reason=f"reason {number}")
    page = staff("view_reportqueue", "view_auditentry").get(f"{QUEUE}{row.pk}/change/").content.decode()
    assert "reason 24" in page
    assert "reason 4<" not in page
    assert f'href="{AUDIT}?q=row:{row.pk}"' in page
    without = staff("view_reportqueue").get(f"{QUEUE}{row.pk}/change/").content.decode()
    assert "The newest entries." in without
    assert AUDIT not in without


def test_schedules_show_their_changes():
    schedule = build_schedule(cron="0 8 * * *")
    schedule.cron = "0 9 * * *"
    schedule.save()
    page = text_of(staff("view_reportschedule").get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert "What people have done" in page
    assert "0 8 * * *" in page
    assert ReportSchedule.objects.count() == 1


def test_a_bulk_action_is_told_of_and_so_is_each_of_its_rows():
    rows = [build_row(status=Status.FAILED) for _ in range(3)]
    with audit.acting("anna", Via.PAGE):
        action = bulk.start("requeue", {"status": ["failed"]}, reason="the source is back", by="anna")
        bulk.pause(action.pk, by="anna")
        bulk.resume(action.pk, by="anna")
    while bulk.step(1).left:
        pass
    assert told(kind=Kind.BULK) == [
        (what, "anna", "page") for what in ("start requeue", "pause", "resume", "finish requeue")
    ]
    assert told(kind=Kind.ROW) == [("requeue", "anna", "page")] * 3
    assert set(AuditEntry.objects.filter(kind=Kind.ROW).values_list("object_id", flat=True)) == {
        str(row.pk) for row in rows
    }


def test_the_end_of_a_bulk_action_is_told_with_its_filters_and_counts():
    for status in (Status.QUEUED, Status.QUEUED, Status.RUNNING):
        build_row(status=status)
    with audit.acting("anna", Via.API):
        action = bulk.start("cancel", {"report_id": 1}, reason="a mistake", by="anna")
    while bulk.step(1).left:
        pass
    with audit.acting("otto", Via.PAGE):
        undo = bulk.undo(action.pk, by="otto")
    while bulk.step(1).left:
        pass
    with audit.acting("anna", Via.API):
        stopped = bulk.start("cancel", {"report_id": 1}, by="anna")
        bulk.stop(stopped.pk, by="anna")
    told_of = AuditEntry.objects.filter(kind=Kind.BULK).order_by("id")
    found = [(one.action, one.by, one.object_id, one.changes, one.reason) for one in told_of]
    filters = {"report_id": [None, 1]}
    undone = {"undo_of": [None, action.pk]}
    assert found == [
        ("start cancel", "anna", str(action.pk), filters, "a mistake"),
        ("finish cancel", "anna", str(action.pk), {**filters, "done": [None, 3], "asked": [None, 1]}, "a mistake"),
        ("undo requeue", "otto", str(undo.pk), undone, ""),
        ("finish undo requeue", "otto", str(undo.pk), {**undone, "done": [None, 2], "refused": [None, 1]}, ""),
        ("start cancel", "anna", str(stopped.pk), filters, ""),
        ("stop", "anna", str(stopped.pk), {**filters, "done": [None, 0]}, ""),
    ]


def test_a_row_says_by_whom_it_was_cancelled_in_a_bulk_action_also_once_that_is_pruned():
    row = build_row()
    with audit.acting("anna", Via.PAGE):
        bulk.start("cancel", {"report_id": 1}, reason="a mistake", by="anna")
    while bulk.step(1).left:
        pass
    BulkAction.objects.all().delete()
    queue.requeue(row.pk, reason="all is well")
    page = text_of(staff("view_reportqueue").get(f"{QUEUE}{row.pk}/change/"))
    assert re.search(r"anna.*cancel.*Cancelled by anna in bulk action \d+: a mistake", page, re.DOTALL)
