"""One row at a bound, or of a kind that nobody foresaw, stops nobody else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from reportqueue import bounds, queue, schedules, triggers
from reportqueue.errors import InvalidTransition
from reportqueue.management.commands import enqueue_due_reports
from reportqueue.models import ReportAttempt, ReportQueue, ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.queue import claims
from reportqueue.schedules import expansion
from reportqueue.states import Status
from reportqueue.timing import Timing
from tests.conftest import ClientFactory, RowFactory, build_row, minutes_ago
from tests.integration.test_prune import prune


def used_up(**fields: Any) -> ReportQueue:
    """A row at the end of its generations."""
    row = build_row(**fields)
    ReportQueue.objects.filter(pk=row.pk).update(generation=bounds.MAX_COUNT)
    return row


@contextmanager
def refusing(pk: int) -> Iterator[None]:
    """The database refuses every change of one row, as a constraint of its own would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NEW.id = {pk} THEN RAISE EXCEPTION 'the row is bad' USING ERRCODE = 'check_violation'; END IF; "
            "RETURN NEW; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON reportqueue_reportqueue FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        yield
        cursor.execute("DROP TRIGGER refuse ON reportqueue_reportqueue")
        cursor.execute("DROP FUNCTION refuse")


def test_a_claim_ends_a_row_whose_generations_are_used_up_and_hands_out_the_others(db: None):
    bad, good = used_up(priority=5), build_row()
    claim = queue.claim("sensor")
    assert [row.pk for row in claim.rows] == [good.pk]
    bad.refresh_from_db()
    assert (bad.status, bad.error) == (
        Status.FAILED,
        "Handed out 2,147,483,647 times, the most that a report can be.",
    )
    assert queue.claim("sensor", ack=claim.claim_id).rows == []
    good.refresh_from_db()
    assert good.status == Status.DISPATCHED, "acknowledged, although the first try was rolled back"


def test_a_claim_goes_on_if_another_one_has_ended_the_used_up_row_meanwhile(db: None):
    bad, first, second = used_up(priority=5), build_row(priority=1), build_row()
    end_used_up = claims._end_used_up

    def come_second() -> bool:
        with mock.patch.object(claims, "_end_used_up", end_used_up):
            assert [row.pk for row in queue.claim("other", limit=1).rows] == [first.pk]
        return end_used_up()

    with mock.patch.object(claims, "_end_used_up", come_second):
        assert [row.pk for row in queue.claim("sensor").rows] == [second.pk]
    bad.refresh_from_db()
    assert bad.status == Status.FAILED


def test_a_poll_shows_every_row_and_marks_one_at_its_bound(db: None, client_with: ClientFactory):
    bad, good = used_up(), build_row()
    api = client_with("view_reportqueue", "consume_reportqueue")
    triggers.hand_over(Pattern.POLLING, at=None)
    ReportQueue.objects.update(available_at=timezone.now())
    pending = api.get("/api/pending-reports/").json()["pending"]
    assert {row["id"]: row["generation"] for row in pending} == {bad.pk: bounds.MAX_COUNT + 1, good.pk: 1}
    assert queue.mark_processed(bad.pk).status == Status.SUCCEEDED
    bad.refresh_from_db()
    assert bad.generation == bounds.MAX_COUNT


def test_launches_that_failed_are_counted_as_far_as_the_column_goes(make_row: RowFactory):
    told, silent = (make_row(status=Status.DISPATCHED, launch_failures=bounds.MAX_SMALL_COUNT) for _ in range(2))
    good = make_row(status=Status.DISPATCHED, lease_expires_at=minutes_ago(1))
    ReportQueue.objects.filter(pk=silent.pk).update(lease_expires_at=minutes_ago(1))
    queue.fail_launch(told.pk, generation=1, run_id="run", error="boom")
    assert queue.rescue_expired() == queue.Rescued(queued=2, ended=0)
    for row, failures in ((told, bounds.MAX_SMALL_COUNT), (silent, bounds.MAX_SMALL_COUNT), (good, 1)):
        row.refresh_from_db()
        assert (row.status, row.launch_failures) == (Status.QUEUED, failures)


def test_a_row_whose_attempts_were_cut_starts_beside_the_others(make_row: RowFactory):
    cut, good = make_row(status=Status.DISPATCHED, attempt=1, max_attempts=1), make_row(status=Status.DISPATCHED)
    answers = queue.start_many({cut.pk: 1, good.pk: 1}, run_id="run")
    assert [answers[row.pk].status for row in (cut, good)] == [Status.RUNNING, Status.RUNNING]
    cut.refresh_from_db()
    assert cut.attempt == 1


def test_a_row_that_cannot_be_rescued_is_logged_and_the_others_are_rescued(
    make_row: RowFactory, caplog: pytest.LogCaptureFixture
):
    bad, good = (make_row(status=Status.RUNNING, lease_expires_at=minutes_ago(1)) for _ in range(2))
    with refusing(bad.pk):
        assert queue.rescue_expired() == queue.Rescued(queued=1, ended=0)
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, good.status) == (Status.RUNNING, Status.QUEUED)
    assert f"Report {bad.pk}: its lease has run out, but it cannot be taken back." in caplog.text


@pytest.mark.parametrize("verb", ["start", "heartbeat", "renew_dispatch", "complete"])
def test_of_rows_in_one_call_only_the_one_that_the_database_refuses_is_refused(verb: str, make_row: RowFactory):
    status = Status.RUNNING if verb in ("heartbeat", "complete") else Status.DISPATCHED
    rows = [make_row(status=status) for _ in range(4)]
    tokens = {row.pk: row.lease_token for row in rows}
    ones = dict.fromkeys(tokens, 1)
    with refusing(rows[1].pk):
        answers: Any = {
            "start": lambda: queue.start_many(ones, run_id="run"),
            "heartbeat": lambda: queue.heartbeat_many(tokens),
            "renew_dispatch": lambda: queue.renew_dispatch_many(ones, run_id="run"),
            "complete": lambda: queue.complete_many(tokens, results={}),
        }[verb]()
    refused = {pk: answer for pk, answer in answers.items() if isinstance(answer, Exception)}
    assert list(refused) == [rows[1].pk]
    assert isinstance(refused[rows[1].pk], InvalidTransition)
    assert "the row is bad" in str(refused[rows[1].pk])


def test_a_call_for_one_row_that_the_database_refuses_is_a_refusal_not_a_failure(
    make_row: RowFactory, client_with: ClientFactory
):
    row = make_row(status=Status.RUNNING)
    with refusing(row.pk):
        answer = client_with("consume_reportqueue").post(
            f"/api/report-queue/{row.pk}/fail/", {"lease_token": row.lease_token, "error": "boom"}, "json"
        )
    assert (answer.status_code, answer.json()["type"]) == (409, "invalid-state")


def test_an_error_that_nobody_foresaw_in_one_schedule_stops_no_other(
    make_schedule: Any, caplog: pytest.LogCaptureFixture
):
    due = timezone.now().replace(second=0, microsecond=0)
    bad = make_schedule(timezone="Asia/Tokyo", next_run_at=due - timedelta(minutes=1))
    good, unplanned = make_schedule(next_run_at=due), make_schedule(timezone="Asia/Tokyo", report_id=7)
    ReportSchedule.objects.filter(pk=unplanned.pk).update(next_run_at=None, plan_needed=True)
    look = Timing.next_firing

    def next_firing(timing: Timing, after: datetime) -> datetime | None:
        if timing.timezone == "Asia/Tokyo":
            raise ZeroDivisionError("nobody foresaw this")
        return look(timing, after)

    with mock.patch.object(Timing, "next_firing", next_firing):
        assert schedules.enqueue_due() == schedules.Pass(enqueued=1, put_off=2)
    assert ReportQueue.objects.get().schedule == good
    assert "nobody foresaw this" in caplog.text
    bad.refresh_from_db()
    assert bad.enabled
    assert schedules.enqueue_due().enqueued == 1, "the next pass has it"


def test_an_error_that_nobody_foresaw_in_the_whole_batch_is_its_schedules_own(make_schedule: Any):
    due = timezone.now().replace(second=0, microsecond=0)
    bad, good = make_schedule(next_run_at=due), make_schedule(next_run_at=due)
    enter = expansion.overlaps.enqueue

    def enqueue(fires: Any, *more: Any) -> Any:
        if any(pk == bad.pk for pk, *_ in fires):
            raise ZeroDivisionError
        return enter(fires, *more)

    with mock.patch.object(expansion.overlaps, "enqueue", enqueue):
        assert schedules.enqueue_due() == schedules.Pass(enqueued=1, put_off=1)
    assert ReportQueue.objects.get().schedule == good


def test_a_schedule_at_its_last_version_is_edited_paused_and_replanned(make_schedule: Any):
    schedule, other = make_schedule(), make_schedule()
    ReportSchedule.objects.filter(pk=schedule.pk).update(version=bounds.MAX_COUNT)
    schedules.pause(schedule.pk, by="anna")
    schedule.refresh_from_db()
    assert schedule.version == 1
    ReportSchedule.objects.filter(pk=schedule.pk).update(version=bounds.MAX_COUNT)
    ReportSchedule.objects.update(priority=F("priority") + 1)
    assert list(ReportSchedule.objects.order_by("pk").values_list("version", flat=True)) == [1, other.version + 1]


def test_prune_passes_over_what_something_else_refers_to(make_row: RowFactory, caplog: pytest.LogCaptureFixture):
    rows = [make_row(status=Status.SUCCEEDED, finished_at=minutes_ago(300 - n)) for n in range(5)]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE invoices (report bigint REFERENCES reportqueue_reportqueue ON DELETE RESTRICT)")
        cursor.execute("INSERT INTO invoices VALUES (%s), (%s)", [rows[0].pk, rows[3].pk])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        said = prune("--older-than", "1h", "--batch", "2")
        cursor.execute("DROP TABLE invoices")
    assert "3 finished reports deleted" in said
    assert "2 could not be deleted" in said
    assert set(ReportQueue.objects.values_list("pk", flat=True)) == {rows[0].pk, rows[3].pk}
    assert not ReportAttempt.objects.exclude(queue__in=[rows[0], rows[3]]).exists()
    assert f"Report {rows[0].pk} cannot be pruned" in caplog.text


def test_the_scheduler_goes_on_after_an_error_that_nobody_foresaw(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    passes: list[str] = []
    waits: list[float] = []

    def one_pass(self: Any, *, quiet: bool, stopping: Any) -> schedules.Pass:
        passes.append("pass")
        if len(passes) == 1:
            raise ZeroDivisionError("nobody foresaw this")
        raise KeyboardInterrupt

    class Watch:
        def __enter__(self) -> Watch:
            return self

        def __exit__(self, *_: object) -> None: ...

        def listen(self) -> None: ...

        def wait(self, seconds: float) -> None:
            waits.append(seconds)

    monkeypatch.setattr(enqueue_due_reports, "ScheduleWatch", Watch)
    monkeypatch.setattr(enqueue_due_reports.Command, "_pass", one_pass)
    with (
        caplog.at_level(logging.ERROR, logger="reportqueue"),
        mock.patch.object(enqueue_due_reports.signal, "signal"),
        pytest.raises(KeyboardInterrupt),
    ):
        enqueue_due_reports.Command()._loop(3.0)
    assert (passes, waits) == (["pass", "pass"], [3.0])
    assert "nobody foresaw this" in caplog.text
