"""The catalogue: what a new row gets where its caller says nothing, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from reportqueue import queue, schedules
from reportqueue.models import Report, ReportQueue, ReportSchedule, WebhookSource
from reportqueue.states import Source, Status
from reportqueue.webhooks import accept
from tests.concurrency import at_once, patiently
from tests.conftest import build_row, build_schedule, minutes_ago

pytestmark = pytest.mark.django_db
SCHEMA = {
    "type": "object",
    "properties": {"day": {"type": "string", "format": "date"}, "rows": {"type": "array", "items": {"minimum": 1}}},
    "required": ["day"],
    "additionalProperties": False,
}


def entry(report_id: int = 1, **values: Any) -> Report:
    report = Report(report_id=report_id, **{"name": f"Report {report_id}", **values})
    report.save()
    return report


def problems(**arguments: Any) -> dict[str, list[str]]:
    """What is refused, by field."""
    with pytest.raises(ValidationError) as refused:
        queue.enqueue(1, 2, **arguments)
    assert not ReportQueue.objects.exists()
    return refused.value.message_dict


def test_a_row_has_the_terms_of_its_report_where_its_caller_says_nothing():
    entry(route="finance", priority=7, max_attempts=9, default_params={"day": "2026-01-01", "rows": [1]})
    row = queue.enqueue(1, 2, params={"rows": [2, 3]})
    assert (row.route, row.priority, row.max_attempts) == ("finance", 7, 9)
    assert row.params == {"day": "2026-01-01", "rows": [2, 3]}


def test_what_the_caller_says_goes_before_the_terms():
    entry(route="finance", priority=7, max_attempts=9)
    row = queue.enqueue(1, 2, route="ops", priority=0, max_attempts=3)
    assert (row.route, row.priority, row.max_attempts) == ("ops", 0, 3)


def test_a_report_without_an_entry_has_the_defaults():
    row = queue.enqueue(1, 2)
    assert (row.route, row.priority, row.max_attempts, row.params, row.expires_at) == ("default", 0, 3, {}, None)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "params: 'day' is a required property."),
        ({"day": 5}, "params.day: 5 is not of type 'string'."),
        ({"day": "2026-13-01"}, "params.day: '2026-13-01' is not a 'date'."),
        ({"day": "2026-12-01", "rows": [1, 0]}, "params.rows[1]: 0 is less than the minimum of 1."),
        ({"day": "2026-12-01", "x": 1}, "params: Additional properties are not allowed ('x' was unexpected)."),
    ],
)
def test_parameters_that_do_not_fit_are_refused_with_their_place(params: dict[str, Any], said: str):
    entry(params_schema=SCHEMA)
    assert problems(params=params) == {"params": [said]}


def test_of_a_list_all_or_none_is_queued_and_the_place_is_named():
    entry(params_schema=SCHEMA)
    good, bad = {"day": "2026-12-01"}, {"day": 1}
    with pytest.raises(ValidationError) as refused:
        queue.enqueue_many([queue.NewReport(report_id=1, modifier_id=2, params=params) for params in (good, bad)])
    assert list(refused.value.message_dict) == ["[1].params"]
    assert not ReportQueue.objects.exists()


def test_the_defaults_are_part_of_what_is_checked():
    entry(params_schema=SCHEMA, default_params={"day": "2026-12-01"})
    assert queue.enqueue(1, 2).params == {"day": "2026-12-01"}


def test_a_quoted_value_is_cut():
    entry(params_schema=SCHEMA)
    (text,) = problems(params={"day": ["x" * 60_000]})["params"]
    assert len(text) < 400


@pytest.mark.parametrize("route", ["", "Finance", "a b", 1, True, "r" * 51])
def test_what_is_no_route_is_refused(route: Any):
    assert list(problems(route=route)) == ["route"]


@pytest.mark.parametrize("unique", ["", "always", True, 1])
def test_uniqueness_has_one_value(unique: Any):
    assert list(problems(unique=unique)) == ["unique"]


def test_a_report_that_is_unfinished_is_the_answer():
    first = queue.enqueue(1, 2, params={"a": 1}, unique=queue.UNFINISHED)
    assert queue.enqueue(1, 2, params={"a": 1}, unique=queue.UNFINISHED).pk == first.pk
    others = [
        queue.enqueue(1, 2, params={"a": 2}, unique=queue.UNFINISHED),
        queue.enqueue(1, 3, params={"a": 1}, unique=queue.UNFINISHED),
        queue.enqueue(2, 2, params={"a": 1}, unique=queue.UNFINISHED),
        queue.enqueue(1, 2, params={"a": 1}),
    ]
    assert len({first.pk, *(row.pk for row in others)}) == 5


def test_a_report_that_has_ended_is_queued_again():
    first = queue.enqueue(1, 2, unique=queue.UNFINISHED)
    queue.cancel(first.pk)
    assert queue.enqueue(1, 2, unique=queue.UNFINISHED).pk != first.pk


def test_of_a_list_the_same_report_is_queued_once():
    same = queue.NewReport(report_id=1, modifier_id=2, unique=queue.UNFINISHED)
    done = queue.enqueue_many([same, same, queue.NewReport(report_id=1, modifier_id=3, unique=queue.UNFINISHED)])
    assert [one.created for one in done] == [True, False, True]
    assert done[0].row.pk == done[1].row.pk


def test_a_key_that_is_known_goes_before_uniqueness():
    first = queue.enqueue(1, 2, idempotency_key="k", unique=queue.UNFINISHED)
    queue.cancel(first.pk)
    second = queue.enqueue(1, 2, unique=queue.UNFINISHED)
    assert queue.enqueue(1, 2, idempotency_key="k", unique=queue.UNFINISHED).pk == first.pk != second.pk


@pytest.mark.parametrize(
    ("params", "rows"),
    [
        ([{"a": True}, {"a": 1}], 2),
        ([{"a": [0]}, {"a": [False]}], 2),
        ([{"a": 1}, {"a": 1.0}], 1),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], 1),
        ([{"a": 10**23}, {"a": 1e23}], 1),
        ([{"a": "1"}, {"a": 1}], 2),
    ],
)
def test_parameters_are_the_same_if_they_are_the_same_json(params: list[dict[str, Any]], rows: int):
    """In one list, and as the database compares them."""
    asked = [queue.NewReport(report_id=1, modifier_id=2, params=one, unique=queue.UNFINISHED) for one in params]
    assert len({one.row.pk for one in queue.enqueue_many(asked)}) == rows
    ReportQueue.objects.all().delete()
    assert len({queue.enqueue_many([one])[0].row.pk for one in asked}) == rows


def test_a_call_with_many_reports_has_steps_for_all_of_them():
    entry(params_schema={"properties": {"a": {"items": {"type": "integer"}}}})
    asked = [queue.NewReport(report_id=1, modifier_id=2, params={"a": [1] * 20_000}) for _ in range(40)]
    queue.enqueue_many(asked[:5])
    with pytest.raises(ValidationError) as refused:
        queue.enqueue_many(asked)
    assert "this call needs more than 1,000,000 steps" in str(refused.value)


@pytest.mark.parametrize(
    ("schema", "defaults", "said"),
    [
        (SCHEMA, {"day": 5}, "default_params.day: 5 is not of type 'string'."),
        (SCHEMA, {"rows": [0]}, "default_params.rows[0]: 0 is less than the minimum of 1."),
        (SCHEMA, {"x": 1}, "default_params: Additional properties are not allowed ('x' was unexpected)."),
        (SCHEMA, {"rows": [1]}, ""),  # `day` may come with each row
        ({"minProperties": 3}, {"a": 1}, ""),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, ""),
        ({"allOf": [{"properties": {"a": {"type": "null"}}}]}, {"a": 1}, "default_params.a: 1 is not of type 'null'."),
        ({"maxProperties": 1}, {"a": 1, "b": 1}, "default_params: {'a': 1, 'b': 1} has too many properties."),
    ],
)
def test_defaults_that_no_parameters_can_mend_are_refused(schema: Any, defaults: Any, said: str):
    if not said:
        entry(params_schema=schema, default_params=defaults)
        return
    with pytest.raises(ValidationError) as refused:
        entry(params_schema=schema, default_params=defaults)
    assert refused.value.message_dict == {"default_params": [said]}


@pytest.mark.parametrize("schema", [[], "", "x", 0, 1, True, False, [1]])
def test_a_schema_is_an_object(schema: Any):
    with pytest.raises(ValidationError) as refused:
        entry(params_schema=schema)
    assert refused.value.message_dict == {"params_schema": ["Must be a JSON object: a schema."]}


@pytest.mark.django_db(transaction=True)
def test_who_asks_at_once_for_the_same_report_gets_the_same_row():
    enqueue = partial(patiently, queue.enqueue, 1, 2, params={"a": 1}, unique=queue.UNFINISHED)
    rows = at_once([enqueue] * 8)
    assert len({row.pk for row in rows}) == 1
    assert ReportQueue.objects.count() == 1


def test_a_row_that_has_not_started_in_time_is_skipped_and_not_run_late():
    entry(expires_after_seconds=600)
    late = queue.enqueue(1, 2, trigger_time=minutes_ago(11))
    fresh = queue.enqueue(1, 2, trigger_time=minutes_ago(9))
    assert [row.pk for row in queue.claim("sensor").rows] == [fresh.pk]
    late.refresh_from_db()
    assert (late.status, late.result) == (Status.SKIPPED, {"reason": "expired", "count": 1})
    assert "Expired: it was due at" in late.error


def test_the_scheduler_skips_it_too():
    entry(expires_after_seconds=600)
    queue.enqueue(1, 2, trigger_time=minutes_ago(11))
    assert queue.skip_too_late() == 1
    assert queue.skip_too_late() == 0


def test_a_run_that_comes_too_late_does_not_start_its_row():
    entry(expires_after_seconds=600)
    queue.enqueue(1, 2)
    (row,) = queue.claim("sensor").rows
    ReportQueue.objects.update(expires_at=minutes_ago(1))
    (refusal,) = queue.start_many({row.pk: 1}, run_id="run").values()
    assert "comes too late" in str(refusal)
    assert ReportQueue.objects.get().status == Status.SKIPPED


def test_a_row_that_has_started_in_time_is_tried_again_however_late():
    entry(expires_after_seconds=600)
    queue.enqueue(1, 2)
    (row,) = queue.claim("sensor").rows
    started = queue.start(row.pk, generation=1, run_id="run")
    assert started.lease_token is not None
    failed = queue.fail(row.pk, lease_token=started.lease_token, error="x", retry_after_seconds=0)
    assert (failed.status, failed.expires_at) == (Status.QUEUED, None)


def test_a_row_that_a_person_requeues_does_not_expire():
    entry(expires_after_seconds=600)
    row = queue.enqueue(1, 2, trigger_time=minutes_ago(9))
    queue.cancel(row.pk)
    ReportQueue.objects.update(trigger_time=minutes_ago(90))
    queue.requeue(row.pk)
    assert len(queue.claim("sensor").rows) == 1


def test_the_rows_of_a_schedule_have_the_terms_of_its_report():
    entry(route="finance", default_params={"a": 1, "b": 1}, expires_after_seconds=600)
    schedule = build_schedule(report_id=1, modifier_id=2, params={"b": 2})
    row = schedules.run_now(schedule.pk)
    assert (row.route, row.params) == ("finance", {"a": 1, "b": 2})
    assert row.expires_at == row.trigger_time + timedelta(seconds=600)


def test_a_backfill_does_not_expire():
    entry(expires_after_seconds=60)
    schedule = build_schedule(report_id=1, modifier_id=2, cron="* * * * *")
    schedules.backfill(schedule.pk, minutes_ago(30), minutes_ago(28))
    assert set(ReportQueue.objects.values_list("source", "expires_at")) == {(Source.BACKFILL, None)}


def test_a_schedule_whose_parameters_do_not_fit_is_refused():
    entry(params_schema=SCHEMA)
    with pytest.raises(ValidationError) as refused:
        ReportSchedule(report_id=1, modifier_id=2, cron="@daily", params={"day": 1}).save()
    assert refused.value.message_dict == {"params": ["params.day: 1 is not of type 'string'."]}


def test_a_schedule_that_no_longer_fits_can_be_paused_but_not_edited_to_something_else_wrong():
    schedule = build_schedule(report_id=1, modifier_id=2, params={"day": 1})
    entry(params_schema=SCHEMA)
    assert not schedules.pause(schedule.pk, by="ana").enabled
    schedule.refresh_from_db()
    schedule.params = {"day": 2}
    with pytest.raises(ValidationError):
        schedule.save()


def test_a_unique_schedule_skips_a_firing_while_the_same_report_is_unfinished():
    schedule = build_schedule(report_id=1, modifier_id=2, cron="* * * * *", unique=True, params={"a": 1})
    now = timezone.now()
    firings = [queue.Firing(schedule.pk, now + timedelta(minutes=place), now) for place in range(2)]
    inserted = queue.enqueue_firings(firings)
    assert (inserted.queued, inserted.skipped) == (1, 1)
    skipped = ReportQueue.objects.get(status=Status.SKIPPED)
    assert skipped.result == {"reason": "unique", "count": 1}
    queued = ReportQueue.objects.get(status=Status.QUEUED)
    queue.cancel(queued.pk)
    queue.enqueue(1, 2, params={"a": 1})  # by somebody else
    later = now + timedelta(minutes=5)
    assert queue.enqueue_firings([queue.Firing(schedule.pk, later, later)]).skipped == 1
    assert schedules.run_now(schedule.pk).status == Status.QUEUED  # a person asks for it


def test_a_unique_webhook_source_adds_nothing_while_the_report_is_unfinished():
    source = WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2, unique=True)
    first = accept(source, "1", {})
    again = accept(source, "2", {})
    assert (first.created, again.created, again.row.pk) == (True, False, first.row.pk)


def test_a_delivery_whose_parameters_do_not_fit_is_refused():
    entry(params_schema=SCHEMA)
    source = WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2, params_paths={"day": "day"})
    with pytest.raises(ValidationError) as refused:
        accept(source, "1", {"day": 5})
    assert refused.value.message_dict == {"params": ["params.day: 5 is not of type 'string'."]}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"max_running": 0}, "max_running"),
        ({"max_running_per_modifier": 0}, "max_running_per_modifier"),
        ({"rate_limit": 0, "rate_period_seconds": 60}, "rate_limit"),
        ({"rate_limit": 5}, "rate_period_seconds"),
        ({"rate_period_seconds": 60}, "rate_limit"),
        ({"expires_after_seconds": 0}, "expires_after_seconds"),
        ({"name": ""}, "name"),
        ({"route": "A"}, "route"),
        ({"params_schema": {"type": "no"}}, "params_schema"),
        ({"default_params": []}, "default_params"),
        ({"priority": 101}, "priority"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_on_save(values: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as refused:
        entry(**values)
    assert list(refused.value.message_dict) == [field]


@pytest.mark.parametrize(
    "values",
    [
        {"max_running": 0},
        {"max_running_per_modifier": 1_000_001},
        {"rate_limit": 5},
        {"rate_period_seconds": 60},
        {"rate_limit": 0, "rate_period_seconds": 60},
        {"expires_after_seconds": 0},
        {"priority": 101},
        {"route": "A"},
    ],
)
def test_the_database_refuses_it_too(values: dict[str, Any]):
    entry()
    with pytest.raises(IntegrityError), transaction.atomic():
        Report.objects.update(**values)


def test_two_reports_cannot_have_one_name():
    entry(1, name="Weather")
    with pytest.raises(ValidationError) as refused:
        entry(2, name="WEATHER")
    assert refused.value.message_dict == {"name": ["Another report has this name."]}
    entry(2, name="Stocks")
    with pytest.raises(IntegrityError), transaction.atomic():
        Report.objects.filter(pk=2).update(name="weather")


def test_a_run_that_asks_for_no_lease_gets_that_of_its_report():
    Report(report_id=1, name="Long", lease_seconds=900).save()
    long, other = build_row(report_id=1, status=Status.DISPATCHED), build_row(report_id=2, status=Status.DISPATCHED)

    def left(row: ReportQueue) -> int:
        row.refresh_from_db()
        assert row.lease_expires_at is not None
        return round((row.lease_expires_at - timezone.now()).total_seconds(), -1)

    started = queue.start_many({long.pk: 1, other.pk: 1}, run_id="run")
    assert (left(long), left(other)) == (900, 60)
    queue.heartbeat(long.pk, lease_token=started[long.pk].lease_token, lease_seconds=300)
    assert left(long) == 300
    beat = queue.heartbeat(long.pk, lease_token=started[long.pk].lease_token)
    assert left(long) == 900
    assert beat.lease_expires_at == long.lease_expires_at


def test_rows_that_have_missed_their_deadline_are_counted_and_warned_of(client: Client):
    entry(report_id=7, name="Weather", deadline_seconds=60)
    late = queue.enqueue(report_id=7, modifier_id=1, trigger_time=minutes_ago(5))
    queue.enqueue(report_id=7, modifier_id=1, trigger_time=minutes_ago(0))
    queue.enqueue(report_id=8, modifier_id=1, trigger_time=minutes_ago(5))
    assert late.deadline_at == late.trigger_time + timedelta(seconds=60)
    told = client.get("/status").json()
    assert told["past_deadline"] == 1
    assert "Reports that have missed their deadline and are unfinished: 1." in told["warnings"]
    queue.cancel(late.pk)
    assert client.get("/status").json()["past_deadline"] == 0


def test_a_firing_has_the_deadline_of_its_report_and_a_backfill_has_none():
    entry(report_id=7, name="Weather", deadline_seconds=60)
    schedule = build_schedule(report_id=7)
    schedule.save()
    due = minutes_ago(5)
    for source, minutes in ((Source.SCHEDULE, 0), (Source.BACKFILL, 1)):
        at = due + timedelta(minutes=minutes)
        queue.enqueue_firings([queue.Firing(schedule.pk, at, at)], source=source)
    rows = {row.source: row for row in ReportQueue.objects.all()}
    assert rows[Source.SCHEDULE].deadline_at == due + timedelta(seconds=60)
    assert rows[Source.BACKFILL].deadline_at is None
