"""What no transaction tells of: it is told once when it is found, and once when it is over."""

from __future__ import annotations

import sys
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from reportqueue import events, outbox, queue, schedules, triggers
from reportqueue.models import OutboxEvent, ReportSchedule, Trouble, WebhookSubscription
from reportqueue.outbox import deliverer
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.conftest import minutes_ago

pytestmark = pytest.mark.django_db(transaction=True)


def told() -> list[str]:
    return list(OutboxEvent.objects.order_by("id").values_list("type", flat=True))


def test_a_missed_deadline_is_told_once_and_before_the_end_of_its_row(subscribe, make_row):
    subscribe(event_types=["report.late", "report.succeeded"])
    row = make_row(status=Status.RUNNING, deadline_at=minutes_ago(1))
    make_row(deadline_at=minutes_ago(-5))
    for _ in range(3):
        outbox.watch()
    assert told() == ["report.late"]
    queue.complete(row.pk, lease_token=row.lease_token)
    outbox.watch()
    assert told() == ["report.late", "report.succeeded"]
    assert OutboxEvent.objects.earliest("id").data["queue_id"] == row.pk


def test_an_overdue_schedule_is_told_once_and_again_when_it_is_on_time(subscribe, make_schedule):
    one = make_schedule(next_run_at=minutes_ago(60))
    outbox.watch()
    assert told() == [], "nobody subscribes"
    subscribe(event_types=["schedule.overdue", "schedule.on_time"])
    outbox.watch()
    outbox.watch()
    assert told() == ["schedule.overdue"]
    schedules.enqueue_due()
    outbox.watch()
    assert told() == ["schedule.overdue", "schedule.on_time"]
    assert {event.subject for event in OutboxEvent.objects.all()} == {f"schedule:{one.pk}"}
    assert not Trouble.objects.exists()


def test_late_reports_that_nobody_asks_for_do_not_hide_the_others(subscribe, make_row, monkeypatch):
    monkeypatch.setattr(sys.modules["reportqueue.outbox.watch"], "MOST", 2)
    one = subscribe(event_types=["report.late"], report_ids=[7])
    for _ in range(3):
        make_row(report_id=3, deadline_at=minutes_ago(10))
    make_row(report_id=7, deadline_at=minutes_ago(1))
    outbox.watch()
    assert [event.report_id for event in OutboxEvent.objects.all()] == [7]
    WebhookSubscription.objects.filter(pk=one.pk).update(report_ids=[])
    outbox.watch()
    outbox.watch()
    assert OutboxEvent.objects.filter(report_id=3).count() == 3


def test_any_number_of_overdue_schedules_is_told_of(subscribe, make_schedule, monkeypatch):
    monkeypatch.setattr(sys.modules["reportqueue.outbox.watch"], "MOST", 2)
    subscribe(event_types=["schedule.overdue", "schedule.on_time"])
    for modifier_id in range(5):
        make_schedule(next_run_at=minutes_ago(60 - modifier_id), modifier_id=modifier_id)
    for _ in range(4):
        outbox.watch()
    assert told() == ["schedule.overdue"] * 5
    make_schedule(next_run_at=minutes_ago(90), modifier_id=9)
    outbox.watch()
    assert told() == ["schedule.overdue"] * 6, "none of them is on time"


def test_a_look_at_many_overdue_schedules_takes_as_many_statements_as_one_at_few(subscribe, make_schedule):
    subscribe(event_types=["schedule.overdue"])

    def statements(count: int) -> int:
        for number in range(count):
            make_schedule(next_run_at=minutes_ago(60), report_id=count, modifier_id=number)
        with CaptureQueriesContext(connection) as seen:
            outbox.watch()
        return len(seen)

    statements(1)
    assert statements(3) == statements(20)


def test_the_events_of_a_schedule_are_sent_in_the_order_of_their_numbers(
    subscribe, receiver, make_schedule, monkeypatch
):
    subscribe(event_types=["schedule.overdue", "schedule.disabled"])
    one = make_schedule(next_run_at=minutes_ago(60))
    others: list[threading.Thread] = []
    write_all = events.write_all

    def pause() -> None:
        try:
            schedules.pause(one.pk, by="anna", note="")
            outbox.Deliverer().run(threading.Event(), seconds=3)
        finally:
            connections.close_all()

    def slowly(kind, told) -> None:
        write_all(kind, told)
        if told and not others:
            others.append(threading.Thread(target=pause))
            others[0].start()
            time.sleep(0.5)

    monkeypatch.setattr(events, "write_all", slowly)
    outbox.watch()
    others[0].join()
    outbox.deliver_for(5)
    assert [got.payload["type"] for got in receiver.requests] == ["schedule.overdue", "schedule.disabled"]


def test_a_schedule_that_another_transaction_holds_is_told_of_by_the_next_look(subscribe, make_schedule):
    subscribe(event_types=["schedule.overdue", "schedule.on_time"])
    one = make_schedule(next_run_at=minutes_ago(60))

    def look() -> None:
        outbox.watch()
        connections.close_all()

    with transaction.atomic():
        ReportSchedule.objects.select_for_update().get(pk=one.pk)
        other = threading.Thread(target=look)
        other.start()
        other.join()
    assert told() == []
    outbox.watch()
    assert told() == ["schedule.overdue"]
    ReportSchedule.objects.all().delete()
    outbox.watch()
    assert told() == ["schedule.overdue", "schedule.on_time"]


def test_silence_is_told_and_its_end(subscribe, make_schedule):
    make_schedule()
    subscribe(event_types=["consumers.silent", "consumers.heard"])
    outbox.watch()
    assert told() == ["consumers.silent"]
    triggers.saw(Pattern.QUEUE, "sensor")
    outbox.watch()
    assert told() == ["consumers.silent", "consumers.heard"]


def test_whoever_subscribes_later_is_told_of_what_lasts(subscribe, make_schedule):
    make_schedule(next_run_at=minutes_ago(60))
    subscribe(event_types=["schedule.overdue"])
    outbox.watch()
    WebhookSubscription.objects.update(enabled=False)
    outbox.watch()
    WebhookSubscription.objects.update(enabled=True)
    outbox.watch()
    assert told() == ["schedule.overdue"] * 2


def test_pauses_and_disabled_schedules_are_told(subscribe, make_schedule):
    subscribe()
    queue.pause(report_id=3, by="anna", note="broken source")
    queue.resume(report_id=3, by="bert")
    queue.pause(by="anna")
    one, broken = make_schedule(), make_schedule(report_id=4, next_run_at=minutes_ago(1))
    schedules.pause(one.pk, by="anna", note="later")
    ReportSchedule.objects.filter(pk=broken.pk).update(cron="not a cron")
    schedules.enqueue_due()
    assert told() == ["queue.paused", "queue.resumed", "queue.paused", "schedule.disabled", "schedule.disabled"]
    paused, _, _, by_person, by_error = OutboxEvent.objects.order_by("id")
    assert paused.data | {"by": "anna", "note": "broken source", "report_id": 3} == paused.data
    assert (by_person.data["paused_by"], by_person.data["pause_note"]) == ("anna", "later")
    assert by_error.data["error"]
    assert by_error.data["schedule_id"] == broken.pk
    assert timezone.now() - by_error.at < timedelta(minutes=1)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_look_that_fails_holds_up_no_webhooks(subscribe, receiver, make_row, monkeypatch, goes_on):
    def fails() -> None:
        raise ValueError("no look")

    monkeypatch.setattr(deliverer, "watch", fails)
    monkeypatch.setattr(deliverer.alerts, "step", fails)
    subscribe(event_types=["report.succeeded"])
    row = make_row(status=Status.RUNNING)
    queue.complete(row.pk, lease_token=row.lease_token)
    if goes_on:
        stop = threading.Event()
        receiver.faults = lambda number: stop.set() or "ok"
        threading.Timer(5, stop.set).start()
        outbox.work(stop)
    else:
        outbox.deliver_for(5)
    assert len(receiver.requests) == 1
