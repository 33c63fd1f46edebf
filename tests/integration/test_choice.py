"""Which rows a claim hands out if more are due: modifiers take turns, within routes, caps, rates and pauses."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from reportqueue import queue
from reportqueue.models import Report, ReportAttempt, ReportQueue
from reportqueue.states import Status
from tests.concurrency import at_once

pytestmark = pytest.mark.django_db


def many(count: int, **values: Any) -> list[int]:
    """Rows that are due, the oldest first; their ids."""
    due = timezone.now() - timedelta(hours=1)
    values = {"report_id": 1, "modifier_id": 1, "priority": 0, **values}
    rows = [
        ReportQueue(trigger_time=due, available_at=due + timedelta(milliseconds=place), **values)
        for place in range(count)
    ]
    return [row.pk for row in ReportQueue.objects.bulk_create(rows)]


def entry(report_id: int = 1, **values: Any) -> Report:
    report = Report(report_id=report_id, name=f"Report {report_id}", **values)
    report.save()
    return report


def claimed(limit: int, consumer: str = "sensor", **options: Any) -> list[ReportQueue]:
    """The rows of one claim, which is acknowledged."""
    claim = queue.claim(consumer, limit=limit, **options)
    if claim.claim_id is not None:
        queue.claim(consumer, ack=claim.claim_id, limit=1, max_in_flight=1)
    return claim.rows


def modifiers(rows: list[ReportQueue]) -> Counter[int]:
    return Counter(row.modifier_id for row in rows)


def run(rows: list[ReportQueue]) -> None:
    """Make them."""
    for row in rows:
        started = queue.start(row.pk, generation=row.generation, run_id=f"run-{row.pk}")
        assert started.lease_token is not None
        queue.complete(row.pk, lease_token=started.lease_token)


def test_a_customer_with_many_rows_does_not_hold_up_another_one():
    many(200, modifier_id=1)
    many(1, modifier_id=2)
    assert modifiers(claimed(10)) == {1: 9, 2: 1}


def test_those_who_wait_share_a_claim_evenly():
    for modifier_id in (1, 2, 3, 4):
        many(50, modifier_id=modifier_id)
    assert modifiers(claimed(20)) == {1: 5, 2: 5, 3: 5, 4: 5}


def test_a_higher_priority_comes_before_a_lower_one_whoever_has_how_much():
    many(50, modifier_id=1, priority=5)
    many(50, modifier_id=2)
    assert modifiers(claimed(10)) == {1: 10}


def test_within_a_modifier_the_oldest_comes_first():
    ids = many(30, modifier_id=1)
    many(30, modifier_id=2)
    rows = claimed(10)
    assert [row.pk for row in rows if row.modifier_id == 1] == ids[:5]


def test_every_row_is_handed_out_whatever_the_number_of_modifiers():
    wanted = {pk for modifier_id in range(300) for pk in many(2, modifier_id=modifier_id)}
    many(40, modifier_id=0)
    got: list[int] = []
    while rows := claimed(7):
        got += [row.pk for row in rows]
        run(rows)
    assert len(got) == len(set(got)) == 640
    assert wanted <= set(got)


def test_of_many_more_modifiers_than_a_claim_looks_at_none_is_left_until_the_end():
    many(600, modifier_id=0)
    last = 500
    for modifier_id in range(1, last + 1):
        many(3, modifier_id=modifier_id)
    seen: dict[int, int] = {}
    for number in range(51):
        rows = claimed(10)
        run(rows)
        for row in rows:
            seen.setdefault(row.modifier_id, number)
    # A claim looks at 26 of the 501 modifiers, and takes a row of ten.
    assert len(seen) == last + 1


def test_two_customers_take_turns_also_if_each_report_ends_before_the_next_claim():
    many(50, modifier_id=1)
    many(2, modifier_id=2)
    taken = []
    for _ in range(4):
        rows = claimed(1)
        taken += [row.modifier_id for row in rows]
        run(rows)
    assert taken == [1, 2, 1, 2]


def test_two_customers_take_turns_within_a_cap():
    entry(max_running=1)
    many(5, modifier_id=1)
    many(2, modifier_id=2)
    taken = []
    for _ in range(4):
        rows = claimed(100)
        taken += [row.modifier_id for row in rows]
        run(rows)
    assert taken == [1, 2, 1, 2]


def test_routes_are_kept_apart():
    finance, others = many(3, route="finance"), many(3)
    assert [row.pk for row in claimed(10, "f", routes=["finance"])] == finance
    assert claimed(10, "f", routes=["finance"]) == []
    assert [row.pk for row in claimed(10, "d", routes=["default"])] == others


def test_without_routes_a_claim_gets_rows_of_all():
    wanted = {*many(3, route="finance"), *many(3), *many(3, route="ops")}
    assert {row.pk for row in claimed(4) + claimed(10)} == wanted


def test_a_claim_of_several_routes_gets_theirs_by_priority():
    many(3, route="a")
    first = many(2, route="b", priority=7)
    many(3, route="c", priority=9)
    assert [row.pk for row in claimed(2, routes=["a", "b"])] == first
    assert len(claimed(10, routes=["b", "a"])) == 3


def test_rows_of_another_route_do_not_hide_those_of_a_claim():
    many(300, route="busy", priority=3)
    wanted = many(2, route="quiet")
    assert [row.pk for row in claimed(10, routes=["quiet"])] == wanted


@pytest.mark.parametrize("routes", [[], "finance", ["Finance"], ["a" * 51], [1], ["ok", ""], ["x"] * 51, [None]])
def test_what_is_no_route_is_refused(routes: Any):
    with pytest.raises(ValidationError) as refused:
        queue.claim("sensor", routes=routes)
    assert list(refused.value.message_dict) == ["routes"]


def test_no_more_rows_of_a_report_are_under_way_than_its_cap():
    entry(max_running=3)
    many(10)
    others = many(2, report_id=2)
    first = queue.claim("sensor", limit=100)
    assert Counter(row.report_id for row in first.rows) == {1: 3, 2: 2}
    assert first.limited
    assert {row.pk for row in first.rows} >= set(others)
    assert claimed(100, "another") == []
    run(first.rows[:1])
    assert len(claimed(100, "another")) == (1 if first.rows[0].report_id == 1 else 0)


def test_no_more_rows_of_a_modifier_are_under_way_than_its_cap():
    entry(max_running_per_modifier=2)
    for modifier_id in (1, 2, 3):
        many(10, modifier_id=modifier_id)
    rows = claimed(100)
    assert modifiers(rows) == {1: 2, 2: 2, 3: 2}
    assert claimed(100) == []
    run([row for row in rows if row.modifier_id == 2])
    assert modifiers(claimed(100)) == {2: 2}


def test_a_report_at_its_cap_does_not_hide_others_however_many_rows_it_has():
    entry(max_running=1)
    for modifier_id in range(200):
        many(2, modifier_id=modifier_id)
    claimed(1)
    wanted = many(3, report_id=2, modifier_id=7)
    low = many(2, report_id=3, priority=-5)
    assert [row.pk for row in claimed(10)] == [*wanted, *low]


def test_customers_at_their_caps_do_not_hide_others():
    entry(max_running_per_modifier=1)
    for modifier_id in range(150):
        many(3, modifier_id=modifier_id)
    assert len(claimed(150)) == 150
    wanted = many(2, modifier_id=990) + many(1, modifier_id=991)
    rows = claimed(20)
    assert modifiers(rows) == {990: 1, 991: 1}
    assert {row.pk for row in rows} == {wanted[0], wanted[2]}


def test_a_report_with_little_room_left_does_not_take_the_place_of_others():
    entry(max_running=2)
    for modifier_id in range(100):
        many(1, modifier_id=modifier_id)
    many(30, report_id=2)
    assert Counter(row.report_id for row in claimed(20)) == {1: 2, 2: 18}


def test_a_rate_bounds_starts_in_any_period():
    entry(rate_limit=3, rate_period_seconds=3_600)
    many(10)
    rows = claimed(100)
    assert len(rows) == 3
    run(rows)
    assert claimed(100) == []
    started = ReportQueue.objects.get(pk=rows[0].pk).attempts.get()
    started.started_at -= timedelta(seconds=3_601)
    started.save()
    assert len(claimed(100)) == 1


def test_starts_of_before_the_clock_was_set_back_do_not_count_for_the_rate_until_it_comes_there():
    entry(rate_limit=1, rate_period_seconds=60)
    many(2)
    run(claimed(1))
    assert claimed(1) == []
    ReportAttempt.objects.update(started_at=F("started_at") + timedelta(hours=3))
    assert len(claimed(1)) == 1


def test_a_row_that_is_handed_out_and_not_started_counts_for_the_rate():
    entry(rate_limit=2, rate_period_seconds=60)
    many(5)
    assert len(claimed(1)) == 1
    assert len(claimed(5, "another")) == 1
    assert claimed(5, "third") == []


def test_each_attempt_counts_for_the_rate():
    entry(rate_limit=2, rate_period_seconds=3_600)
    (pk,) = many(1)
    for number in (1, 2):
        (row,) = claimed(1)
        started = queue.start(row.pk, generation=row.generation, run_id=f"run-{number}")
        assert started.lease_token is not None
        queue.fail(pk, lease_token=started.lease_token, error="x", retry_after_seconds=0)
    assert claimed(1) == []


@pytest.mark.parametrize("what", [{}, {"route": "default"}, {"report_id": 1}])
def test_nothing_of_what_is_paused_is_claimed_until_it_is_resumed(what: dict[str, Any]):
    ids = many(2)
    queue.pause(**what, by="ana", note="a bad deployment")
    claim = queue.claim("sensor")
    assert (claim.rows, claim.limited) == ([], True)
    assert queue.resume(**what)
    assert [row.pk for row in claimed(10)] == ids
    assert not queue.resume(**what)


def test_a_pause_of_one_report_or_route_leaves_the_others():
    many(2)
    other_report, other_route = many(1, report_id=2), many(1, report_id=3, route="b")
    queue.pause(report_id=1)
    assert [row.pk for row in claimed(10)] == other_report + other_route
    many(1, report_id=3, route="b")
    queue.pause(route="b")
    assert claimed(10) == []


def test_what_is_under_way_ends_during_a_pause():
    many(1)
    rows = claimed(1)
    queue.pause()
    run(rows)
    assert ReportQueue.objects.get().status == Status.SUCCEEDED


def test_a_claim_that_was_not_acknowledged_is_handed_out_again_during_a_pause():
    many(2)
    first = queue.claim("sensor")
    queue.pause()
    assert queue.claim("sensor").claim_id == first.claim_id


def test_a_second_pause_leaves_the_first_as_it_is():
    first = queue.pause(by="ana", note="why")
    again = queue.pause(by="bob", note="another")
    assert (again.pk, again.paused_by, again.note) == (first.pk, "ana", "why")
    assert len(queue.paused()) == 1


@pytest.mark.parametrize(
    ("what", "field"),
    [
        ({"route": "Bad Name"}, "route"),
        ({"route": "a", "report_id": 1}, "route"),
        ({"report_id": -1}, "report_id"),
        ({"report_id": True}, "report_id"),
        ({"note": "x" * 1_001}, "note"),
        ({"note": "nul \x00"}, "note"),
    ],
)
def test_a_pause_of_nothing_sensible_is_refused(what: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as refused:
        queue.pause(**what)
    assert list(refused.value.message_dict) == [field]


@pytest.mark.django_db(transaction=True)
def test_claims_at_once_stay_within_the_caps():
    entry(max_running=7, max_running_per_modifier=2)
    for modifier_id in range(40):
        many(5, modifier_id=modifier_id)
    claims = at_once([lambda name=f"sensor-{n}": queue.claim(name, limit=10) for n in range(8)])
    rows = [row for claim in claims for row in claim.rows]
    assert len(rows) == len({row.pk for row in rows}) == 7
    assert max(modifiers(rows).values()) <= 2


@pytest.mark.django_db(transaction=True)
def test_a_claim_reads_in_the_order_of_indexes_whatever_the_statistics_say():
    """With old ones, PostgreSQL believes that few rows wait, and would sort all of them for each group."""
    entry(max_running_per_modifier=1)
    for modifier_id in range(30):
        many(2, modifier_id=modifier_id)
    settings = []

    def setting() -> str:
        with connection.cursor() as cursor:
            cursor.cursor.execute("SHOW enable_sort")
            return str(cursor.cursor.fetchone()[0])

    def look(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if ReportQueue._meta.db_table in sql:
            settings.append(setting())
        return execute(sql, params, *rest)

    with connection.execute_wrapper(look):
        assert len(queue.claim("sensor", limit=10).rows) == 10
    assert len(settings) > 3
    assert set(settings) == {"off"}
    assert setting() == "on"


@pytest.mark.django_db(transaction=True)
def test_somebody_who_holds_the_first_rows_does_not_hold_up_a_claim_that_chooses():
    held = many(30, modifier_id=1)
    wanted = many(30, modifier_id=2)
    with transaction.atomic():
        list(ReportQueue.objects.select_for_update().filter(pk__in=[*held, *wanted[:20]]))
        (claim,) = at_once([lambda: queue.claim("sensor", limit=5)])
    assert [row.pk for row in claim.rows] == wanted[20:25]
