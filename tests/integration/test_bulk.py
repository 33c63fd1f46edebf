"""Bulk actions: which rows they change and count; they are paused, stopped and undone; others act meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections, transaction
from django.db.models import Model
from django.utils import timezone

from reportqueue import bulk, queue
from reportqueue.bulk import filters, work
from reportqueue.errors import BulkActionNotFound, BulkActionRefused, IdempotencyKeyReused
from reportqueue.models import BulkAction, BulkActionRow, ReportQueue, ReportSchedule
from reportqueue.models.bulk import BulkStatus
from reportqueue.states import Status
from reportqueue.timing.policies import Overlap
from tests.concurrency import at_once
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.integration.test_enqueue_due_reports import ROOT, command, database_url, listens
from tests.integration.test_enqueue_due_reports import until as until_process

FAILED = {"status": "failed"}


def many(count: int, status: Status = Status.FAILED, **fields: Any) -> None:
    """So many rows at once: copies of one."""
    first = build_row(status=status, **fields)
    columns = ", ".join(field.column for field in ReportQueue._meta.fields if field.column not in ("id", "processed"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO reportqueue_reportqueue ({columns}) "  # noqa: S608  # names of columns
            f"SELECT {columns} FROM reportqueue_reportqueue, generate_series(2, %s) WHERE id = %s",
            [count, first.pk],
        )


def finish(action: BulkAction) -> BulkAction:
    """Work until nothing is left."""
    while bulk.step(1).left:
        pass
    action.refresh_from_db()
    return action


def statuses() -> Counter[str]:
    return Counter(ReportQueue.objects.values_list("status", flat=True))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two rows."""
    monkeypatch.setattr(work, "FIRST_BATCH", 2)
    monkeypatch.setattr(work, "MOST", 2)


@pytest.mark.django_db
def test_all_rows_that_match_are_requeued_and_no_others():
    rows = [build_row(status=Status.FAILED, report_id=7, max_attempts=1) for _ in range(3)]
    others = [
        build_row(status=Status.FAILED, report_id=8),
        build_row(status=Status.SUCCEEDED, report_id=7),
        build_row(status=Status.SKIPPED, report_id=7),
        build_row(report_id=7),
    ]
    action = bulk.start("requeue", {"status": "failed", "report_id": 7}, reason="mended", by="ana")
    assert (action.status, action.total, action.more) == (BulkStatus.WAITING, 3, False)
    later = build_row(status=Status.FAILED, report_id=7)
    finish(action)
    assert (action.status, action.done, action.refused, action.asked) == (BulkStatus.FINISHED, 3, {}, 0)
    for row in rows:
        row.refresh_from_db()
        assert (row.status, row.attempt, row.result) == (Status.QUEUED, 0, None)
        assert row.error == f"Requeued by ana in bulk action {action.pk}: mended"
    for row in (*others, later):
        before = row.status
        row.refresh_from_db()
        assert row.status == before
    assert {row.queue_id for row in action.rows.all()} == {row.pk for row in rows}


@pytest.mark.django_db
def test_a_cancel_ends_waiting_rows_and_asks_running_ones():
    waiting = [build_row(), build_row(status=Status.CLAIMED), build_row(status=Status.DISPATCHED)]
    running, done = build_row(status=Status.RUNNING), build_row(status=Status.SUCCEEDED)
    action = finish(bulk.start("cancel", {}, all_rows=True, by="ana"))
    assert (action.done, action.asked, action.refused) == (4, 1, {})
    assert statuses() == {Status.CANCELLED: 3, Status.RUNNING: 1, Status.SUCCEEDED: 1}
    running.refresh_from_db()
    assert running.cancel_requested
    assert done.pk not in set(action.rows.values_list("queue_id", flat=True))
    assert {row.pk for row in waiting} < set(action.rows.values_list("queue_id", flat=True))


@pytest.mark.django_db
@pytest.mark.parametrize("overlap", ["queue_one", "skip"])
def test_rows_of_a_schedule_without_overlaps_still_take_turns(overlap: str):
    schedule = build_schedule(overlap=overlap)
    instants = [minutes_ago(n) for n in range(5)]
    for instant in instants:
        build_row(status=Status.FAILED, schedule=schedule, trigger_time=instant)
    build_row(status=Status.FAILED)
    action = finish(bulk.start("requeue", FAILED))
    assert action.done == 6
    queued = ReportQueue.objects.filter(schedule=schedule, status=Status.QUEUED)
    assert (queued.filter(waiting=False).count(), queued.filter(waiting=True).count()) == (1, 4)
    undone = finish(bulk.undo(action.pk))
    assert undone.done == 6
    assert statuses() == {Status.CANCELLED: 6}


@pytest.mark.django_db
def test_every_filter_of_the_list_works():
    schedule = build_schedule()
    then = minutes_ago(600)
    wanted = build_row(
        status=Status.FAILED, report_id=3, modifier_id=4, route="finance", schedule=schedule, trigger_time=then,
        source="api", claimed_by="lane", fingerprint="0123456789abcdef"
    )  # fmt: skip
    build_row(status=Status.FAILED)
    given = {
        "status": ["failed", "cancelled"],
        "source": "api",
        "processed": "true",
        "claimed_by": ["lane", "other"],
        "route": "finance",
        "report_id": "3",
        "report": "3",
        "failure": wanted.fingerprint,
        "modifier_id": 4,
        "schedule": schedule.pk,
        "trigger_time_after": (then - timedelta(hours=1)).isoformat(),
        "trigger_time_before": (then + timedelta(hours=1)).isoformat(),
    }
    assert set(given) == set(filters.NAMES)
    assert [row.pk for row in bulk.preview("requeue", bulk.checked("requeue", given)).sample] == [wanted.pk]
    for name, value in given.items():
        action = bulk.start("requeue", {**FAILED, name: value})
        assert action.total == (2 if name in ("status", "processed", "trigger_time_after") else 1), name
        assert bulk.words(action.filters)
    assert finish(bulk.start("requeue", given)).status == BulkStatus.FINISHED
    wanted.refresh_from_db()
    assert wanted.status == Status.QUEUED


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"statuses": "failed"}, "statuses"),
        ({"status": "lost"}, "status"),
        ({"status": []}, "status"),
        ({"status": "queued"}, "status"),
        ({"processed": "false"}, "processed"),
        ({"report_id": ""}, "report_id"),
        ({"report_id": None}, "report_id"),
        ({"report_id": True}, "report_id"),
        ({"report_id": [1, 2]}, "report_id"),
        ({"report_id": {"gt": 1}}, "report_id"),
        ({"report_id": -1}, "report_id"),
        ({"report_id": "1.5"}, "report_id"),
        ({"schedule": 2**63}, "schedule"),
        ({"route": "a\x00b"}, "route"),
        ({"report": "\ud800"}, "report"),
        ({"claimed_by": [str(number) for number in range(101)]}, "claimed_by"),
        ({"trigger_time_after": "2026-12-01"}, "trigger_time_after"),
        ({}, "all"),
        ({"processed": "any"}, "all"),
    ],
)
def test_a_wrong_filter_is_named_and_nothing_is_made(given: dict[str, Any], named: str):
    with pytest.raises(ValidationError) as refused:
        bulk.start("requeue", given)
    assert set(refused.value.message_dict) == {named}
    assert not BulkAction.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"verb": "complete"}, "verb"),
        ({"reason": "x" * 1_001}, "reason"),
        ({"reason": "\x00"}, "reason"),
        ({"idempotency_key": "\x00"}, "idempotency_key"),
        ({"all_rows": True}, "all"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], named: str):
    with pytest.raises(ValidationError) as refused:
        bulk.start(**{"verb": "requeue", "filters": FAILED, **arguments})
    assert set(refused.value.message_dict) == {named}


@pytest.mark.django_db
def test_a_repeat_with_the_same_key_is_the_same_action():
    first = bulk.start("requeue", FAILED, idempotency_key="a", scope="user:1")
    assert bulk.start("requeue", FAILED, idempotency_key="a", scope="user:1") == first
    assert bulk.start("requeue", FAILED, idempotency_key="a", scope="user:2") != first
    with pytest.raises(IdempotencyKeyReused):
        bulk.start("requeue", {"status": "cancelled"}, idempotency_key="a", scope="user:1")


@pytest.mark.django_db(transaction=True)
def test_the_same_key_twice_at_once_makes_one_action():
    made = at_once([lambda: bulk.start("requeue", FAILED, idempotency_key="a")] * 3)
    assert len({action.pk for action in made if isinstance(action, BulkAction)}) == 1, made


@pytest.mark.django_db
def test_counts_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(filters, "COUNTED", 5)
    many(6)
    many(2, Status.CANCELLED)
    found = bulk.preview("requeue", {})
    assert (found.counts, found.total, found.more) == ({"cancelled": 2, "failed": 5, "succeeded": 0}, 5, True)
    assert len(found.sample) == 8
    assert bulk.preview("requeue", {"status": ["cancelled"]}).more is False


@pytest.mark.django_db
def test_a_count_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch):
    many(50_000)
    monkeypatch.setattr(filters, "COUNT_SECONDS", 0.001)
    action = bulk.start("requeue", FAILED)
    assert (action.total, action.more) == (None, False)


@pytest.mark.django_db
def test_a_paused_action_rests_until_it_is_resumed(small: None):
    many(6)
    action = bulk.start("requeue", FAILED)
    assert bulk.step(0) == bulk.Worked(rows=2, left=True)
    assert bulk.pause(action.pk).status == bulk.pause(action.pk).status == BulkStatus.PAUSED
    assert bulk.step(0) == bulk.Worked(rows=0, left=False)
    assert bulk.resume(action.pk).status == bulk.resume(action.pk).status == BulkStatus.WAITING
    assert finish(action).done == 6
    for order in (bulk.pause, bulk.resume, bulk.stop):
        with pytest.raises(BulkActionRefused):
            order(action.pk)


@pytest.mark.django_db
def test_a_stopped_action_keeps_what_it_has_done_and_can_be_undone(small: None):
    many(6)
    action = bulk.start("requeue", FAILED)
    bulk.step(0)
    with pytest.raises(BulkActionRefused):
        bulk.undo(action.pk)
    assert bulk.stop(action.pk).status == bulk.stop(action.pk).status == BulkStatus.CANCELLED
    assert bulk.step(1) == bulk.Worked(rows=0, left=False)
    assert statuses() == {Status.QUEUED: 2, Status.FAILED: 4}
    with pytest.raises(BulkActionRefused):
        bulk.resume(action.pk)
    undone = bulk.undo(action.pk)
    assert bulk.undo(action.pk) == undone, "one undo"
    assert (finish(undone).verb, undone.done, undone.total) == ("cancel", 2, 2)
    assert statuses() == {Status.CANCELLED: 2, Status.FAILED: 4}


@pytest.mark.django_db
def test_an_action_that_is_not_there_or_has_changed_nothing_cannot_be_undone():
    for order in (bulk.pause, bulk.resume, bulk.stop, bulk.undo, bulk.get):
        with pytest.raises(BulkActionNotFound):
            order(1)
    action = finish(bulk.start("requeue", FAILED))
    assert action.status == BulkStatus.FINISHED
    with pytest.raises(BulkActionRefused, match="changed no row"):
        bulk.undo(action.pk)


@pytest.mark.django_db
def test_the_undo_of_a_requeue_cancels_only_what_is_still_as_it_was_left():
    kept, claimed, again, gone = (build_row(status=Status.FAILED, priority=n) for n in (0, 9, 0, 0))
    action = finish(bulk.start("requeue", FAILED))
    assert queue.claim("sensor", limit=1).rows[0].pk == claimed.pk
    queue.cancel(again.pk)
    queue.requeue(again.pk, reason="somebody else wants it")
    ReportQueue.objects.filter(pk=gone.pk).delete()
    undone = finish(bulk.undo(action.pk))
    assert undone.done == 1
    assert undone.refused == {
        "The report was handed out, has started or was changed since.": 2,
        "There is no such report in the queue.": 1,
    }
    found = dict(ReportQueue.objects.values_list("pk", "status"))
    assert found == {kept.pk: Status.CANCELLED, claimed.pk: Status.CLAIMED, again.pk: Status.QUEUED}


@pytest.mark.django_db
def test_the_undo_of_a_cancel_requeues_only_what_it_has_cancelled():
    kept, again, running = build_row(), build_row(), build_row(status=Status.RUNNING)
    action = finish(bulk.start("cancel", {"processed": "false"}))
    queue.requeue(again.pk)
    queue.cancel(again.pk, reason="somebody else")
    queue.cancel(running.pk, lease_token=running.lease_token)
    undone = finish(bulk.undo(action.pk, by="ana"))
    assert (undone.verb, undone.done, undone.undo_of_id) == ("requeue", 1, action.pk)
    assert undone.refused == {
        "The report was handed out, has started or was changed since.": 1,
        "The report was running when it was asked to end: that cannot be undone.": 1,
    }
    kept.refresh_from_db()
    assert kept.status == Status.QUEUED
    assert kept.error.startswith(f"Requeued by ana in bulk action {undone.pk}, which undoes {action.pk}")
    assert finish(bulk.undo(undone.pk)).done == 1, "an undo can be undone"
    kept.refresh_from_db()
    assert kept.status == Status.CANCELLED


@pytest.mark.django_db
@pytest.mark.parametrize("in_turn", [False, True])
def test_the_undo_of_a_cancel_runs_no_report_before_its_time(in_turn: bool):
    later = [minutes_ago(-60 * hours) for hours in (1, 2, 2)]
    rows = [build_row(trigger_time=at, available_at=at) for at in later[:2]]
    of_schedule = {"schedule": build_schedule(overlap=Overlap.QUEUE_ONE)} if in_turn else {}
    rows += [build_row(trigger_time=later[2], available_at=later[2], **of_schedule)]
    rows += [build_row(), build_row(status=Status.CLAIMED)]
    action = finish(bulk.start("cancel", {"processed": "false"}))
    undone = finish(bulk.undo(action.pk))
    assert (undone.done, undone.refused) == (5, {})
    found = dict(ReportQueue.objects.values_list("pk", "available_at"))
    assert [found[row.pk] for row in rows[:3]] == later
    assert all(minutes_ago(1) < found[row.pk] <= minutes_ago(0) for row in rows[3:]), "due now, as after any requeue"
    assert finish(bulk.undo(undone.pk)).done == 5, "an undo can be undone"


@pytest.mark.django_db
def test_a_row_changed_by_others_meanwhile_is_refused_and_counted(monkeypatch: pytest.MonkeyPatch):
    rows = [build_row(status=Status.FAILED) for _ in range(3)]
    matching = work._matching

    def meanwhile(*arguments: Any) -> Any:
        found = matching(*arguments)
        queue.requeue(rows[1].pk)
        queue.cancel(rows[1].pk)
        return found

    monkeypatch.setattr(work, "_matching", meanwhile)
    action = finish(bulk.start("requeue", FAILED))
    assert (action.done, action.refused) == (2, {"The report is cancelled by now.": 1})
    assert statuses() == {Status.QUEUED: 2, Status.CANCELLED: 1}


@pytest.mark.django_db
def test_at_most_20_reasons_are_counted_apart(monkeypatch: pytest.MonkeyPatch):
    many(30)

    def refuse(statuses: Any) -> Callable[[ReportQueue], Exception]:
        return lambda row: work.InvalidTransition(f"Row {row.pk} is special.")

    monkeypatch.setattr(work, "_not_wanted", refuse)
    action = finish(bulk.start("requeue", FAILED))
    assert (len(action.refused), action.refused[work.OTHER], action.refused_count) == (20, 11, 30)


@contextmanager
def held(row: Model) -> Iterator[None]:
    """Another connection has locked the row."""
    ready, free = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                type(row)._default_manager.select_for_update(of=("self",)).get(pk=row.pk)
                ready.set()
                free.wait(60)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert ready.wait(60)
    try:
        yield
    finally:
        free.set()
        thread.join()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["row", "schedule"])
def test_what_another_transaction_holds_is_refused_alone(what: str):
    schedule = build_schedule(overlap="queue_one")
    rows = [build_row(status=Status.FAILED) for _ in range(60)]
    busy = rows[30]
    ReportQueue.objects.filter(pk=busy.pk).update(schedule=schedule)
    action = bulk.start("requeue", FAILED)
    with held(busy if what == "row" else schedule):
        finish(action)
    assert (action.done, action.refused_count, action.status) == (59, 1, BulkStatus.FINISHED)
    assert "Another transaction holds its lock" in next(iter(action.refused))
    busy.refresh_from_db()
    assert busy.status == Status.FAILED


@pytest.mark.django_db(transaction=True)
def test_two_schedulers_at_once_change_each_row_once():
    many(1_000)
    action = bulk.start("requeue", FAILED)

    def work_on() -> int:
        changed = 0
        while BulkAction.objects.filter(pk=action.pk).exclude(status=BulkStatus.FINISHED).exists():
            changed += bulk.step(0.05).rows
        return changed

    changed = at_once([work_on, work_on, work_on])
    assert sum(changed) == 1_000, changed
    action.refresh_from_db()
    assert (action.done, action.refused, action.rows.count()) == (1_000, {}, 1_000)


@pytest.mark.django_db(transaction=True)
def test_an_action_on_which_another_process_works_is_passed_over():
    many(3)
    first, second = bulk.start("requeue", FAILED), bulk.start("cancel", {"status": "queued"})
    with held(first):
        finish(second)
        assert second.status == BulkStatus.FINISHED
        first.refresh_from_db()
        assert first.status == BulkStatus.WAITING


@pytest.mark.django_db
def test_open_actions_take_turns(small: None):
    many(8, report_id=1)
    many(2, report_id=2)
    large, little = bulk.start("requeue", {"report_id": 1}), bulk.start("requeue", {"report_id": 2})
    for _ in range(3):
        bulk.step(0)
    large.refresh_from_db()
    little.refresh_from_db()
    assert (large.done, little.done) == (4, 2)


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_does_not_commit_has_changed_and_counted_nothing(monkeypatch: pytest.MonkeyPatch, small: None):
    many(6)
    action = bulk.start("requeue", FAILED)
    bulk.step(0)

    def die(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(BulkAction, "save", die)
        with pytest.raises(KeyboardInterrupt):
            bulk.step(0)
    action.refresh_from_db()
    assert (action.done, statuses()[Status.QUEUED], action.rows.count()) == (2, 2, 2)
    assert (finish(action).done, statuses()[Status.QUEUED]) == (6, 6)


@pytest.mark.django_db(transaction=True)
def test_killed_anywhere_a_bulk_action_loses_and_repeats_nothing():
    many(3_000)
    action = bulk.start("requeue", FAILED)
    seen: set[int] = set()
    for _ in range(4):
        with command("--loop") as loop:
            begun = len(seen)
            until_process(lambda: _done(action) > max(seen, default=0), loop, "nothing was done")
            time.sleep(0.05 * begun)
            loop.send_signal(signal.SIGKILL)
            loop.wait()
        seen.add(_done(action))
        assert _done(action) == statuses()[Status.QUEUED] == action.rows.count()
        if _done(action) == 3_000:
            break
    finish(action)
    assert (action.done, action.refused, action.rows.count()) == (3_000, {}, 3_000)
    assert len(seen) > 1, "every kill came after the end"


def _done(action: BulkAction) -> int:
    return BulkAction.objects.get(pk=action.pk).done


@pytest.mark.django_db
def test_an_action_whose_work_raises_an_error_is_paused_and_others_go_on():
    many(2)
    broken, fine = bulk.start("requeue", FAILED), bulk.start("requeue", FAILED)
    BulkAction.objects.filter(pk=broken.pk).update(filters={"unknown": 1})
    finish(fine)
    broken.refresh_from_db()
    assert (fine.status, fine.done, broken.status) == (BulkStatus.FINISHED, 2, BulkStatus.PAUSED)
    assert "not valid any more" in broken.problem
    assert bulk.resume(broken.pk).problem == ""


@pytest.mark.django_db
def test_where_few_rows_match_a_batch_looks_through_a_bounded_part_of_the_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work, "WINDOW", 10)
    build_row(status=Status.FAILED)
    many(30, Status.SUCCEEDED)
    build_row(status=Status.FAILED)
    action = bulk.start("requeue", FAILED)
    bulk.step(0)
    action.refresh_from_db()
    assert (action.done, action.last_id) == (1, action.first_id + 10)
    assert finish(action).done == 2


def pruned() -> int:
    """How many actions are deleted, which is how many were counted before."""
    counted = bulk.count_prunable(older_than=timedelta(hours=1))
    deleted = bulk.prune(older_than=timedelta(hours=1))
    assert counted == deleted
    return deleted


@pytest.mark.django_db
def test_old_actions_are_deleted_but_not_while_there_is_an_undo_of_them():
    many(3)
    action = finish(bulk.start("requeue", FAILED))
    undone = bulk.undo(action.pk)
    BulkAction.objects.filter(pk=action.pk).update(finished_at=minutes_ago(600))
    assert pruned() == 0
    finish(undone)
    again = finish(bulk.undo(undone.pk))
    BulkAction.objects.filter(pk=undone.pk).update(finished_at=minutes_ago(600))
    assert pruned() == 0, "each is there for the one after it"
    BulkAction.objects.filter(pk=again.pk).update(finished_at=minutes_ago(600))
    assert pruned() == 3
    assert not BulkActionRow.objects.exists()


@pytest.mark.django_db
def test_an_action_that_nobody_works_on_is_said_to_wait():
    action = bulk.start("requeue", FAILED)
    now = action.created_at
    assert not action.waits_for_scheduler(now + timedelta(seconds=29))
    assert action.waits_for_scheduler(now + timedelta(seconds=31))
    assert not bulk.pause(action.pk).waits_for_scheduler(now + timedelta(days=1))


@pytest.mark.django_db(transaction=True)
def test_ten_thousand_rows_are_done_by_the_scheduler_and_schedules_fire_on_time_meanwhile():
    many(10_000)
    schedules = [ReportSchedule(report_id=66, modifier_id=n, cron="0 0 1 1 *") for n in range(3)]
    for schedule in schedules:
        schedule.save()
    with command("--loop", "--interval", "3600") as loop:
        until_process(listens, loop, "the loop does not wait")
        action = bulk.start("requeue", FAILED)  # it wakes the loop, which would sleep for an hour
        until_process(lambda: _done(action) > 0, loop, "nothing was done")
        late = []
        for schedule in schedules:
            due = timezone.now() + timedelta(seconds=0.7)
            ReportSchedule.objects.filter(pk=schedule.pk).update(next_run_at=due)
            fired = ReportQueue.objects.filter(schedule=schedule)
            until_process(fired.exists, loop, "nothing was enqueued")
            late.append((fired.get().created_at - due).total_seconds())
            assert _done(action) < 10_000, "the bulk action has ended before the schedule was due"
        for tenth in range(1, 11):
            until_process(lambda tenth=tenth: _done(action) >= 1_000 * tenth, loop, "the work does not go on")
    assert max(late) < 2, late
    action.refresh_from_db()
    assert (action.status, action.refused) == (BulkStatus.FINISHED, {})


@pytest.mark.django_db(transaction=True)
def test_a_single_pass_works_on_bulk_actions_too():
    many(3)
    action = bulk.start("requeue", FAILED)
    done = subprocess.run(
        [sys.executable, "manage.py", "enqueue_due_reports"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "3 rows changed by bulk actions" in done.stdout
    assert _done(action) == 3


@pytest.mark.django_db
def test_rows_that_take_turns_are_requeued_together_with_others():
    schedule = build_schedule(overlap="queue_one")
    rows = [build_row(status=Status.FAILED, schedule=schedule, trigger_time=minutes_ago(n)) for n in range(3)]
    rows += [build_row(status=Status.FAILED), build_row(status=Status.CANCELLED), build_row()]
    done = queue.requeue_together([row.pk for row in rows], reason="again")
    assert [isinstance(done[row.pk], ReportQueue) for row in rows] == [True] * 5 + [False]
    for row in rows:
        row.refresh_from_db()
    assert [row.waiting for row in rows] == [False, True, True, False, False, False]
    assert [row.concurrency_key for row in rows] == [schedule.pk] * 3 + [None] * 3
