"""A modifier is erased: none of its texts is found anywhere afterwards, and nothing of another modifier has changed."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, models, transaction
from django.test.utils import CaptureQueriesContext

from reportqueue import audit, bulk, erasure, failures, queue, schedules
from reportqueue.checks import check_settings
from reportqueue.erasure import mentions
from reportqueue.erasure.decisions import DECISIONS, Kept
from reportqueue.errors import ErasureRefused
from reportqueue.models import (
    Alert,
    AlertRule,
    AuditEntry,
    BulkAction,
    DeliveryAttempt,
    EventDelivery,
    MutedFailure,
    OutboxEvent,
    ReportAttempt,
    ReportQueue,
    ReportSchedule,
    WebhookSource,
    WebhookSubscription,
)
from reportqueue.models.audit import Kind, Via
from reportqueue.models.bulk import BulkStatus
from reportqueue.models.event import SUBSCRIBABLE
from reportqueue.outbox import alerts
from reportqueue.states import FINAL, Outcome, Status
from tests.concurrency import at_once
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.integration.test_long_history import READ, history, rows_read  # noqa: F401  # a fixture

pytestmark = pytest.mark.django_db
MARK = "zebrafish"
"""Of letters alone: it stays in the title of a failure."""
ERASED, OTHER = 17, 18
TEXTS = (models.CharField, models.TextField, models.JSONField, ArrayField)
TABLES = [*apps.get_app_config("reportqueue").get_models(), LogEntry]


def erase(modifier_id: int = ERASED, **options: Any) -> erasure.Erased:
    return erasure.erase_modifier(modifier_id, **{"not_deleted": lambda *_: None, **options})


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("erase_modifier", str(ERASED), *arguments, stdout=out)
    return out.getvalue()


def dump() -> dict[str, dict[Any, dict[str, Any]]]:
    """All records of all tables, by their keys."""
    return {
        model._meta.label: {
            row["pk"]: row
            for row in model._base_manager.annotate(pk_=models.F("pk")).values(
                "pk", *(f.attname for f in model._meta.concrete_fields)
            )
        }
        for model in TABLES
    }


def where_marked() -> list[str]:
    """Where the mark is found, in every column of every table."""
    found = []
    for label, records in dump().items():
        for pk, record in records.items():
            found += [
                f"{label} {pk}: {name}" for name, value in record.items() if MARK in json.dumps(value, default=str)
            ]
    return found


def text(modifier_id: int, random: Random) -> str:
    """A text of this modifier: with the mark if it is the one that is erased."""
    own = MARK if modifier_id == ERASED else "plain"
    return f"{random.choice(['', 'über '])}{own}{''.join(random.choices('abcdefgh', k=6))}"


def data_of(modifier_id: int, random: Random, rows: int) -> None:
    """Random data of a modifier in all tables, with a text of it in each column of texts that is not kept."""

    def word() -> str:
        return text(modifier_id, random)

    with audit.acting("anna", Via.PAGE):
        schedule = build_schedule(modifier_id=modifier_id, params={"of": word()}, report_id=random.randrange(3))
        schedule.params = {word(): [word()]}
        schedule.save()
        schedules.pause(schedule.pk, by="anna", note=word())
        ReportSchedule.objects.filter(pk=schedule.pk).update(
            error=word(), calendar_before={"name": word()}, paused_by=word()
        )
        source = WebhookSource(
            name=f"{word()}-{modifier_id}".replace(" ", "-").replace("ü", "u"),
            report_id=1,
            modifier_id=modifier_id,
            enabled=False,
            params_paths={word(): "$"},
        )
        source.save()
        gone = WebhookSource(
            name=f"gone-{word()}".replace(" ", "-").replace("ü", "u"), report_id=1, modifier_id=modifier_id
        )
        gone.save()
        gone.delete()
    rule, _ = AlertRule.objects.get_or_create(
        name="Failures", defaults={"condition": "failed", "emails": ["a@example.com"]}
    )
    user, _ = User.objects.get_or_create(username="anna")

    def log(one: Any, label: str) -> None:
        LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(one),
            object_id=str(one.pk),
            object_repr=label,
            action_flag=CHANGE,
            change_message=word(),
        )

    log(schedule, str(schedule))
    log(source, str(source))
    for number in range(rows):
        status = random.choice(sorted(FINAL))
        row = build_row(
            status=status,
            modifier_id=modifier_id,
            report_id=random.randrange(3),
            schedule=random.choice([None, schedule]),
            trigger_time=minutes_ago(random.randrange(10)) if number % 3 else minutes_ago(number + 20),
            params=random.choice([{}, {"x": word()}, {word(): {"deep": [word()]}}]),
            result=random.choice([None, [word()], {"artifacts": {word(): f"https://files.example.com/{word()}"}}]),
            idempotency_key=random.choice([None, f"{word()}-{uuid4()}"]),
            idempotency_scope=word(),
            idempotency_digest=word(),
            queued_by=word(),
            traceparent=word(),
            error=word(),
        )
        if status == Status.FAILED:
            error = f"ValueError: nothing for {word()}"
            found = failures.read(error)
            ReportQueue.objects.filter(pk=row.pk).update(error=error, fingerprint=found.fingerprint)
            MutedFailure.objects.get_or_create(
                fingerprint=found.fingerprint, defaults={"title": found.title, "note": word()}
            )
            if random.random() < 0.3:
                MutedFailure.objects.filter(fingerprint=found.fingerprint).delete()
            audit.record("mute", Kind.FAILURE, found.fingerprint, label=found.title, reason=word())
        for generation in range(random.randrange(3)):
            ReportAttempt.objects.create(
                queue=row,
                generation=generation,
                attempt=generation,
                run_id=str(uuid4()),
                lease_token=uuid4(),
                started_at=minutes_ago(2),
                finished_at=minutes_ago(1),
                outcome=Outcome.FAILED,
                progress=word(),
                error=word(),
            )
        with audit.acting("anna", Via.PAGE):
            row.modifier_name = word()
            audit.record_rows("requeue", [row], reason=word())
        log(row, str(row))
        event = OutboxEvent.objects.create(
            type="report.failed",
            subject=f"row:{row.pk}",
            report_id=row.report_id,
            data={
                "queue_id": row.pk,
                "modifier_id": modifier_id,
                "error": word(),
                "report_name": "Weather",
                "new": [word()],
            },
        )
        delivery = EventDelivery.objects.create(event=event, subscription_id=1)
        DeliveryAttempt.objects.create(delivery=delivery, milliseconds=3, answer=word(), problem=word())
        line = alerts._line_of(event)
        Alert.objects.create(rule=rule, subject=f"report:{row.pk}", report_id=row.report_id, line=line)
        if status != Status.FAILED and random.random() < 0.4:  # what tells of the row outlives it
            row.delete()
    action = bulk.start("requeue", {"modifier_id": modifier_id}, reason=word(), idempotency_key=word(), scope=word())
    BulkAction.objects.filter(pk=action.pk).update(
        refused={word(): 3, word(): 4}, problem=word(), status=BulkStatus.CANCELLED, finished_at=minutes_ago(1)
    )
    undo = BulkAction.objects.create(
        verb="cancel", undo_of=action, reason=word(), status="cancelled", finished_at=minutes_ago(1)
    )
    audit.record("undo cancel", Kind.BULK, undo.pk, label=str(undo), reason=word())


@pytest.mark.parametrize("seed", range(4))
def test_no_text_is_found_afterwards_and_nothing_of_others_has_changed(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mentions, "WINDOW", 7)
    monkeypatch.setattr("reportqueue.keyset.CHUNK", 5)
    random = Random(seed)
    data_of(OTHER, random, 12)
    data_of(ERASED, random, 25)
    data_of(OTHER + 1, random, 12)
    assert len({place.rpartition(" ")[2] for place in where_marked()}) > 20
    before = dump()
    would = erase(dry_run=True)
    assert dump() == before
    done = erase(batch=4)
    assert where_marked() == []
    assert done.left == 0
    assert done.counts | dict.fromkeys(["muted failures"], 0) == would.counts | {"muted failures": 0}
    after = dump()
    (entry,) = AuditEntry.objects.filter(kind=Kind.MODIFIER)
    assert entry.changes == {kind: [None, count] for kind, count in done.counts.items()}
    for label, records in before.items():
        for pk, record in records.items():
            changed = after[label].get(pk) != record
            assert not changed or MARK in json.dumps(record, default=str) or is_own(label, record), (label, record)
    again = dump()
    assert erase().counts.total() == 0
    assert {label: one for label, one in dump().items() if "Audit" not in label} == {
        label: one for label, one in again.items() if "Audit" not in label
    }


def is_own(label: str, record: dict[str, Any]) -> bool:
    """Whether a record without a text of the modifier may have changed: its row loses the schedule, that is deleted."""
    if label in ("reportqueue.ReportQueue", "reportqueue.ReportSchedule", "reportqueue.WebhookSource"):
        return bool(record["modifier_id"] == ERASED)
    return False


def test_each_column_of_each_table_has_a_decision():
    tables = {
        model: {field.attname for field in model._meta.concrete_fields} for model in TABLES if model is not LogEntry
    }
    assert {model: set(columns) for model, columns in DECISIONS.items()} == tables


NOT_FREE = {
    "cron",
    "timezone",
    "blackout",
    "catch_up",
    "overlap",
    "seed",
    "previous_seed",
    "modifier_path",
    "fingerprint",
}
"""Columns of texts that are erased, and can hold no text of a customer."""


def test_the_data_of_the_tests_has_a_text_in_each_column_that_is_erased():
    data_of(ERASED, Random(1), 30)
    marked = {(place.split(" ")[0], place.rpartition(" ")[2]) for place in where_marked()}
    for model, columns in DECISIONS.items():
        for field in model._meta.concrete_fields:
            if isinstance(field, TEXTS) and field.attname not in NOT_FREE:
                place = (model._meta.label, field.attname)
                assert (place in marked) != isinstance(columns[field.attname], Kept), place


def test_texts_that_are_kept_are_words_of_the_installation():
    kept = {
        f"{model.__name__}.{field.attname}"
        for model, columns in DECISIONS.items()
        for field in model._meta.concrete_fields
        if isinstance(field, TEXTS)
        and isinstance(found := columns[field.attname], Kept)
        and "one modifier" not in found.why
    }
    assert kept == {
        *("ReportQueue.route", "ReportQueue.status", "ReportQueue.source", "ReportQueue.claimed_by"),
        *("ReportQueue.api_user", "ReportQueue.run_id"),
        *("ReportAttempt.run_id", "ReportAttempt.parent_run_id", "ReportAttempt.worker", "ReportAttempt.outcome"),
        *("MutedFailure.fingerprint", "MutedFailure.muted_by"),
        *("OutboxEvent.type", "OutboxEvent.subject", "EventDelivery.status", "Alert.subject"),
        *("AuditEntry.action", "AuditEntry.by", "AuditEntry.via", "AuditEntry.kind", "AuditEntry.object_id"),
        *("BulkAction.verb", "BulkAction.filters", "BulkAction.requested_by", "BulkAction.requested_via"),
        "BulkAction.status",
    }


@pytest.mark.parametrize("status", sorted(set(Status) - FINAL))
def test_unfinished_rows_are_refused(status: str):
    row = build_row(status=status, modifier_id=ERASED, params={"a": MARK})
    build_row(status=Status.FAILED, modifier_id=ERASED, params={"a": MARK})
    with pytest.raises(ErasureRefused, match="1 unfinished rows"):
        erase()
    assert ReportQueue.objects.filter(params={"a": MARK}).count() == 2
    assert erase(dry_run=True).counts["rows"] == 1
    assert ReportQueue.objects.get(pk=row.pk).status == status
    assert not AuditEntry.objects.exists()


def test_whatever_makes_new_rows_is_refused():
    schedule = build_schedule(modifier_id=ERASED)
    WebhookSource.objects.create(name="acme", report_id=1, modifier_id=ERASED)
    build_row(status=Status.FAILED, modifier_id=ERASED)
    action = bulk.start("requeue", {"schedule": schedule.pk})
    with pytest.raises(ErasureRefused) as refused:
        erase()
    assert f"1 enabled schedules ({schedule.pk})" in str(refused.value)
    assert "1 enabled webhook sources (acme)" in str(refused.value)
    assert f"1 open bulk actions ({action.pk})" in str(refused.value)


def test_with_cancel_all_that_goes_on_is_ended_first():
    data_of(OTHER, Random(1), 5)
    schedule = build_schedule(modifier_id=ERASED, params={"a": MARK})
    others = build_schedule(modifier_id=OTHER)
    WebhookSource.objects.create(name=f"acme-{MARK}", report_id=1, modifier_id=ERASED)
    rows = [
        build_row(
            status=Status.QUEUED, modifier_id=ERASED, params={"a": MARK}, schedule=schedule, trigger_time=minutes_ago(n)
        )
        for n in range(3)
    ]
    theirs = build_row(status=Status.QUEUED, modifier_id=OTHER)
    action = bulk.start("cancel", {"modifier_id": ERASED}, reason=MARK)
    done = erase(cancel=True)
    assert done.left == 0
    assert where_marked() == []
    assert {ReportQueue.objects.get(pk=row.pk).status for row in rows} == {Status.CANCELLED}
    assert ReportQueue.objects.get(pk=theirs.pk).status == Status.QUEUED
    assert BulkAction.objects.get(pk=action.pk).status == BulkStatus.CANCELLED
    assert not ReportSchedule.objects.filter(modifier_id=ERASED).exists()
    assert not WebhookSource.objects.filter(modifier_id=ERASED).exists()
    assert ReportSchedule.objects.get(pk=others.pk).enabled


def test_a_running_row_is_asked_to_stop_and_erased_by_the_next_call():
    row = build_row(status=Status.RUNNING, modifier_id=ERASED, params={"a": MARK})
    ended = build_row(status=Status.FAILED, modifier_id=ERASED, params={"a": MARK})
    assert erase(cancel=True).left == 1
    row.refresh_from_db()
    assert (row.status, row.cancel_requested, row.params) == (Status.RUNNING, True, {"a": MARK})
    assert ReportQueue.objects.get(pk=ended.pk).params == {}
    queue.cancel(row.pk, lease_token=row.lease_token)
    assert erase().left == 0
    assert where_marked() == []


def test_what_was_interrupted_is_said_and_goes_on():
    for _ in range(9):
        build_row(status=Status.FAILED, modifier_id=ERASED, params={"a": MARK})
    left = iter([None, None])

    def interrupt(kind: str, count: int) -> None:
        if kind == "rows" and next(left, "end") == "end":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(batch=2, progress=interrupt)
    assert ReportQueue.objects.filter(params={}).count() == 6
    assert AuditEntry.objects.get(kind=Kind.MODIFIER).changes["rows"] == [None, 6]
    assert erase(batch=2).counts["rows"] == 3
    assert where_marked() == []


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_left_and_said():
    held = build_row(status=Status.FAILED, modifier_id=ERASED, params={"a": MARK})
    other = build_row(status=Status.FAILED, modifier_id=ERASED, params={"a": MARK})
    with transaction.atomic():
        ReportQueue.objects.select_for_update().get(pk=held.pk)
        (error,) = at_once([lambda: run("--yes")])
    assert isinstance(error, CommandError)
    assert error.returncode == 1
    assert "1 are left" in str(error)
    assert ReportQueue.objects.get(pk=other.pk).params == {}
    assert ReportQueue.objects.get(pk=held.pk).params == {"a": MARK}
    run("--yes")
    assert where_marked() == []


@pytest.mark.parametrize("ended", [False, True])
def test_a_row_that_was_made_again_meanwhile_is_left(ended: bool, monkeypatch: pytest.MonkeyPatch, settings: Any):
    row = build_row(status=Status.FAILED, modifier_id=ERASED, error="before")

    def make_again(files: erasure.RowFiles) -> list[str]:
        queue.requeue(files.queue_id, reason="after")
        if ended:
            queue.cancel(files.queue_id, reason="after")
        return []

    monkeypatch.setattr("project.artifacts.delete_files", make_again)
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "DELETE_ARTIFACTS": "project.artifacts.delete_files"}
    assert erase().left == (1 if ended else 2), "the row was not as it was read, and may not have ended"
    row.refresh_from_db()
    assert (row.status, row.error) == (Status.CANCELLED if ended else Status.QUEUED, "after")


def test_each_batch_reads_few_rows_of_a_long_history(history: ReportSchedule):  # noqa: F811
    read = rows_read(lambda: erase(9, dry_run=True, batch=100))
    assert read < 2 * READ, "1,000 rows of 20,000 are the modifier's"
    with CaptureQueriesContext(connection) as ran:
        erase(9, batch=500)
    updates = [one["sql"] for one in ran if one["sql"].startswith('UPDATE "reportqueue_reportqueue"')]
    assert len(updates) == 2
    for statement in updates:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}")
            assert "Seq Scan" not in str(cursor.fetchall())


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_an_edit_that_gave_a_schedule_to_another_modifier_divides_its_history(
    chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("reportqueue.keyset.CHUNK", chunk)
    schedule = build_schedule(modifier_id=OTHER, params={"a": "plain"})
    schedule.params = {"a": "still plain"}
    schedule.save()
    schedule.modifier_id, schedule.params = ERASED, {"a": MARK}
    schedule.save()
    schedule.params = {"a": f"{MARK} again"}
    schedule.save()
    schedule.modifier_id, schedule.params = OTHER + 1, {"a": "theirs"}
    schedule.save()
    schedule.params = {"a": "theirs now"}
    schedule.save()
    kept = list(AuditEntry.objects.order_by("id").values())
    erase()
    assert where_marked() == []
    now = list(AuditEntry.objects.exclude(kind=Kind.MODIFIER).order_by("id").values())
    assert [before == after for before, after in zip(kept, now, strict=True)] == [True, True, False, False, False, True]
    assert ReportSchedule.objects.get(pk=schedule.pk).params == {"a": "theirs now"}


def test_a_muted_failure_that_others_have_too_stays():
    known = failures.read("ValueError: no data")
    for modifier_id in (ERASED, OTHER):
        build_row(
            status=Status.FAILED, modifier_id=modifier_id, error="ValueError: no data", fingerprint=known.fingerprint
        )
    queue.mute(known.fingerprint, note="see the wiki")
    assert erase().counts["rows"] == 1
    assert MutedFailure.objects.get().note == "see the wiki"
    assert AuditEntry.objects.get(kind=Kind.FAILURE).label == known.title
    assert erase(OTHER).counts["muted failures"] == 1
    assert (MutedFailure.objects.get().title, MutedFailure.objects.get().note) == ("", "")
    assert AuditEntry.objects.get(kind=Kind.FAILURE).reason == ""


def test_the_audit_says_who_did_it_and_still_refuses_other_changes():
    build_row(status=Status.FAILED, modifier_id=ERASED, params={"a": MARK})
    with audit.acting("deploy", Via.COMMAND):
        erase()
    entry = AuditEntry.objects.get(kind=Kind.MODIFIER)
    assert (entry.action, entry.by, entry.via, entry.object_id) == ("erase", "deploy", "command", str(ERASED))
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('reportqueue.erasing', 'on', true)")
    for change in ({"by": "nobody"}, {"object_id": "1"}, {"action": "view"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            AuditEntry.objects.filter(pk=entry.pk).update(**change)


def test_pending_deliveries_go_on_without_the_texts():
    WebhookSubscription(url="https://example.com/", event_types=list(map(str, SUBSCRIBABLE))).save()
    row = build_row(status=Status.QUEUED, modifier_id=ERASED, params={"a": MARK})
    queue.cancel(row.pk, reason=MARK)
    event = OutboxEvent.objects.get()
    names = set(event.data)
    erase()
    event.refresh_from_db()
    assert set(event.data) == names
    assert (event.data["queue_id"], event.data["modifier_id"], event.data["error"]) == (row.pk, ERASED, "")
    assert EventDelivery.objects.get().status == "pending"


def test_addresses_of_other_hosts_are_named_and_files_of_our_own_deleted(settings: Any, tmp_path: Path):
    settings.MEDIA_ROOT = tmp_path
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "DELETE_ARTIFACTS": "project.artifacts.delete_files"}
    own, theirs = "http://127.0.0.1:8000/artifacts/{}/{}/page.html", f"https://files.example.com/{MARK}.pdf"
    files = {}
    for modifier_id in (ERASED, OTHER):
        row = build_row(status=Status.SUCCEEDED, modifier_id=modifier_id)
        folder = tmp_path / row.run_id / str(row.pk)
        folder.mkdir(parents=True)
        files[modifier_id] = [folder / "page.html", folder / "of-an-attempt-that-failed.csv"]
        for file in files[modifier_id]:
            file.write_text(MARK)
        row.result = {"artifacts": {"page": own.format(row.run_id, row.pk), "pdf": theirs, "odd": 7}}
        row.save()
    assert "2 artifacts" in run("--dry-run")
    assert all(file.exists() for file in files[ERASED])
    said = run("--yes")
    assert [line for line in said.splitlines() if "not deleted" in line] == [
        f"not deleted, of row {ReportQueue.objects.get(modifier_id=ERASED).pk}: {theirs}"
    ]
    assert not any(file.exists() for file in files[ERASED])
    assert all(file.exists() for file in files[OTHER])


def test_the_command_asks_and_counts_and_names_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    row = build_row(status=Status.FAILED, modifier_id=ERASED, params={"a": MARK})
    with pytest.raises(CommandError, match="give --yes") as refused:
        run()
    assert refused.value.returncode == 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "no")
    with pytest.raises(CommandError, match="Nothing was erased") as refused:
        run()
    assert refused.value.returncode == 1
    assert "1 records would be erased" in run("--dry-run")
    assert where_marked()
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    said = run("--run-ids", str(tmp_path / "runs"))
    assert "1 rows" in said
    assert (tmp_path / "runs").read_text() == f"{row.run_id}\n"
    assert where_marked() == []
    assert "Nothing of modifier 17 was left to be erased" in run("--yes", "--run-ids", str(tmp_path / "runs"))
    assert (tmp_path / "runs").read_text() == f"{row.run_id}\n"
    with pytest.raises(CommandError, match="cannot be written") as refused:
        run("--yes", "--run-ids", str(tmp_path))
    assert refused.value.returncode == 2
    build_row(status=Status.QUEUED, modifier_id=ERASED)
    with pytest.raises(CommandError, match="is in use: 1 unfinished rows") as refused:
        run("--yes")
    assert refused.value.returncode == 1
    assert "Without --cancel it would be refused" in run("--dry-run")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("shop.delete", "No module"),
        ("reportqueue.erasure.BATCH", "no function"),
        ("7 a", "dotted path"),
        (7, "dotted path"),
    ],
)
def test_a_function_that_cannot_be_is_refused_by_check(settings: Any, path: Any, problem: str):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "DELETE_ARTIFACTS": path}
    (found,) = check_settings(None)
    assert "DELETE_ARTIFACTS" in found.msg
    assert problem in found.msg
    with pytest.raises(ImproperlyConfigured):
        erase()
