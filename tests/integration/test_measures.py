"""Waiting times, durations and outcomes, rolled up by periods."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from project import demo_history
from reportqueue import measures, queue
from reportqueue.models import Depth, Measure, ReportQueue
from reportqueue.models.measure import OTHERS
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import build_row, minutes_ago

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, DAY, WEEK = measures.SPANS[0], measures.SPANS[2], measures.SPANS[3]
SOON = timedelta(seconds=measures.SETTLED_SECONDS)


def ended(at: datetime, *, waited: float = 1, ran: float = 10, status: str = Status.SUCCEEDED, **fields: Any) -> None:
    """A row that ended then."""
    due = at - timedelta(seconds=waited + ran)
    row = build_row(status=status, trigger_time=due, finished_at=at, **fields)
    ReportQueue.objects.filter(pk=row.pk).update(
        created_at=due - timedelta(hours=1), available_at=due, started_at=due + timedelta(seconds=waited)
    )


def measured(at: datetime) -> None:
    """Everything that has ended before is measured."""
    while measures.roll_up(at + SOON):
        pass


def test_a_period_is_measured_once_some_seconds_after_its_end():
    Depth(start=NOON - timedelta(minutes=5)).save()
    ended(NOON + timedelta(minutes=1))
    assert measures.roll_up(NOON + timedelta(minutes=5, seconds=29)) == 0
    assert measures.roll_up(NOON + timedelta(minutes=5, seconds=30)) == 1
    assert measures.roll_up(NOON + timedelta(minutes=6)) == 0
    assert {(one.what, one.count) for one in Measure.objects.all()} == {("wait", 1), ("run", 1), ("succeeded", 1)}
    assert Depth.objects.filter(start=NOON).exists()


def test_each_row_belongs_to_the_period_in_which_it_ended():
    for minutes in (-0.001, 0, 4.999, 5):
        ended(NOON + timedelta(minutes=minutes))
    measured(NOON + timedelta(minutes=10))
    found = Measure.objects.filter(what="succeeded", seconds=300).values_list("start", "count").order_by("start")
    assert [((start - NOON).total_seconds() / 60, count) for start, count in found] == [(-5, 1), (0, 2), (5, 1)]


def test_an_hour_is_the_sum_of_its_periods():
    for minutes in range(0, 60, 7):
        ended(NOON + timedelta(minutes=minutes), status=Status.FAILED if minutes % 2 else Status.SUCCEEDED)
    measured(NOON + timedelta(hours=1))
    of_hour = Measure.objects.filter(seconds=3600, start=NOON)
    assert {one.what: one.count for one in of_hour if one.what in ("succeeded", "failed")} == {
        "succeeded": 5,
        "failed": 4,
    }
    assert sum(of_hour.filter(what="run").values_list("count", flat=True)) == 9


def test_percentiles_are_near_those_of_the_times_themselves():
    chosen = random.Random(7)
    times = [chosen.lognormvariate(1, 2) for _ in range(400)]
    for seconds in times:
        ended(NOON + timedelta(minutes=1), waited=seconds, ran=seconds / 2)
    measured(NOON + timedelta(minutes=5))
    (of_report,) = measures.read(HOUR, NOON + timedelta(minutes=6)).reports
    assert of_report.waited is not None
    assert of_report.ran is not None
    exact = sorted(times)
    for found, place in ((of_report.waited.p50, 200), (of_report.waited.p95, 380), (of_report.waited.p99, 396)):
        assert found == pytest.approx(exact[place - 1], rel=0.13)
    assert of_report.ran.p50 == pytest.approx(exact[199] / 2, rel=0.13)


@pytest.mark.parametrize("seconds", [-5, 0, 0.001, 0.05, 0.06, 1, 59, 3600, 86_400, 10_000_000])
def test_every_time_has_a_bin_near_it(seconds: float):
    ended(NOON + timedelta(minutes=1), ran=seconds)
    measured(NOON + timedelta(minutes=5))
    place = Measure.objects.get(what="run").bin
    shown = measures.seconds_of(place)
    assert 0 <= place <= measures.BINS
    if seconds <= measures.SMALLEST:
        assert shown == measures.SMALLEST
    elif place < measures.BINS:
        assert shown == pytest.approx(seconds, rel=0.13)


def test_a_row_that_never_started_counts_as_what_it_is():
    row = build_row(status=Status.CANCELLED, finished_at=NOON + timedelta(minutes=1))
    ReportQueue.objects.filter(pk=row.pk).update(started_at=None)
    measured(NOON + timedelta(minutes=5))
    (of_report,) = measures.read(HOUR, NOON + timedelta(minutes=6)).reports
    assert (of_report.ended, of_report.waited, of_report.ran) == ({"cancelled": 1}, None, None)


def test_reports_beyond_the_busiest_are_measured_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measures, "REPORTS", 2)
    for report_id, count in ((1, 3), (2, 2), (3, 1), (4, 1)):
        for _ in range(count):
            ended(NOON + timedelta(minutes=1), report_id=report_id)
    measured(NOON + timedelta(minutes=5))
    assert set(Measure.objects.values_list("report_id", flat=True)) == {1, 2, OTHERS}
    found = measures.read(HOUR, NOON + timedelta(minutes=6), most=1).reports
    assert [(one.report_id, one.total) for one in found] == [(1, 3), (None, 4)]


def test_a_day_has_its_whole_hours_and_the_periods_of_the_last_one():
    for minutes in (-30, 30, 61, 74):
        ended(NOON + timedelta(minutes=minutes))
    measured(NOON + timedelta(minutes=75))
    now = NOON + timedelta(minutes=76)
    (of_day,) = measures.read(DAY, now).reports
    assert of_day.total == 4
    assert [one.succeeded for one in measures.read(DAY, now).throughput][-3:] == [1, 1, 2]
    (of_hour,) = measures.read(HOUR, now).reports
    assert of_hour.total == 3


def test_a_chart_has_the_periods_in_which_nothing_ended():
    ended(NOON + timedelta(minutes=1))
    measured(NOON + timedelta(minutes=15))
    found = measures.read(HOUR, NOON + timedelta(minutes=16)).throughput
    assert [one.succeeded for one in found[-4:]] == [1, 0, 0, 0]
    assert found[0].start == NOON - timedelta(minutes=45)


def test_what_waits_is_counted_for_the_period_that_has_just_ended_alone():
    build_row(trigger_time=NOON)
    build_row(status=Status.RUNNING, deadline_at=NOON)
    Depth(start=NOON - timedelta(minutes=10)).save()
    measures.roll_up(NOON + timedelta(minutes=5) + SOON)
    old, new = Depth.objects.order_by("start")[1:]
    assert (old.waiting, old.in_flight, old.late) == (None, None, None)
    assert (new.waiting, new.in_flight, new.late) == (1, 1, 1)


def test_what_is_old_is_forgotten_and_what_ended_long_ago_is_not_measured():
    for days in (3, 40):
        start = NOON - timedelta(days=days)
        for seconds in (300, 3600):
            Measure(seconds=seconds, start=start, report_id=1, what="succeeded", bin=0, count=1).save()
        Depth(start=start).save()
    ended(NOON - timedelta(days=2))
    measured(NOON)
    assert list(Measure.objects.values_list("seconds", "start")) == [(3600, NOON - timedelta(days=3))]
    first = Depth.objects.order_by("start").first()
    assert first is not None
    assert first.start == NOON - timedelta(days=1)


def test_what_was_measured_before_a_standstill_is_in_no_span_that_begins_later():
    ended(NOON + timedelta(minutes=1))
    measured(NOON + timedelta(minutes=10))
    assert measures.read(DAY, NOON + timedelta(hours=20)).reports
    assert measures.read(DAY, NOON + timedelta(hours=30)).reports == []


def test_the_hour_in_which_a_long_standstill_began_is_kept():
    ended(NOON + timedelta(minutes=1))
    measured(NOON + timedelta(minutes=10))
    now = NOON + timedelta(hours=50, minutes=30)
    ended(now - timedelta(minutes=10))
    for _ in range(2):
        measured(now)
        assert [one.total for one in measures.read(WEEK, now).reports] == [2]
    hours = Measure.objects.filter(seconds=3600, what="succeeded").values_list("start", "count")
    assert list(hours) == [(NOON, 1)], "the last hour is not over"


def test_after_a_clock_that_was_ahead_periods_are_measured_again():
    ended(NOON + timedelta(minutes=1))
    measured(NOON + timedelta(minutes=5))
    ended(NOON + timedelta(minutes=6))
    measured(NOON + timedelta(hours=3))
    ended(NOON + timedelta(minutes=7))
    measured(NOON + timedelta(minutes=10))
    assert measured_at() == [(300, 0, 1), (300, 5, 2)]
    ended(NOON + timedelta(minutes=59))
    measured(NOON + timedelta(hours=1))
    assert measured_at() == [(300, 0, 1), (300, 5, 2), (300, 55, 1), (3600, 0, 4)]


def measured_at() -> list[tuple[int, float, int]]:
    """The length of each period with rows that succeeded, its minute after noon, and how many there were."""
    found = (
        Measure.objects.filter(what="succeeded").values_list("seconds", "start", "count").order_by("seconds", "start")
    )
    return [(seconds, (start - NOON).total_seconds() / 60, count) for seconds, start, count in found]


def test_a_process_whose_clock_is_set_back_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measures, "_next_try", 0.0)
    monkeypatch.setattr(measures, "roll_up", lambda: 1)
    for clock, done in ((1e9 + 86_400, 1), (1e9 + 86_401, 0), (1e9, 1), (1e9 + 1, 0)):
        monkeypatch.setattr(measures.time, "time", lambda now=clock: now)
        assert measures.roll_up_if_due() == done, clock
        assert measures.roll_up_if_due(after=10) == 0, clock


def test_a_report_that_a_person_executes_again_has_not_waited_since_it_was_first_due():
    row = build_row(
        status=Status.SUCCEEDED,
        run_id="run",
        trigger_time=minutes_ago(3_000),
        available_at=minutes_ago(3_000),
        finished_at=minutes_ago(2_999),
    )
    ReportQueue.objects.filter(pk=row.pk).update(created_at=minutes_ago(3_000))
    started = queue.start(row.pk, generation=1, run_id="again", parent_run_id="run")
    queue.complete(row.pk, lease_token=started.lease_token)
    now = minutes_ago(-6)
    measured(now)
    (found,) = measures.read(HOUR, now).reports
    assert found.waited is not None
    assert found.waited.p99 < 60


@pytest.mark.django_db(transaction=True)
def test_of_several_processes_one_measures_a_period():
    Depth(start=NOON - timedelta(minutes=5)).save()
    for _ in range(20):
        ended(NOON + timedelta(minutes=1))
    now = NOON + timedelta(minutes=5) + SOON
    done = at_once([lambda: measures.roll_up(now)] * 4)
    assert sum(done) == 1
    assert Measure.objects.get(what="succeeded").count == 20


def test_what_goes_wrong_is_logged_and_not_raised(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(measures, "_next_try", 0.0)
    monkeypatch.setattr(measures, "LOCK", "other")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE reportqueue_depth RENAME TO gone")
        assert measures.roll_up_if_due() == 0
        cursor.execute("ALTER TABLE gone RENAME TO reportqueue_depth")
    assert "were not rolled up" in caplog.text
    assert measures.roll_up_if_due() == 0, "it has just looked"


def test_the_rows_of_a_period_are_found_by_an_index():
    demo_history.fill(500)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE reportqueue_reportqueue")
        cursor.execute(
            "EXPLAIN SELECT report_id FROM reportqueue_reportqueue WHERE finished_at >= now() - interval '5 min' "
            "AND finished_at < now() AND status = ANY(%s)",
            [sorted({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.SKIPPED})],
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "reportqueue_finished" in plan
