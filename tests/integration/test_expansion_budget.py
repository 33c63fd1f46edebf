"""After an outage a claim computes a bounded share of what was missed; counted in instants, not in time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from unittest import mock
from zoneinfo import available_timezones

import pytest
from django.utils import timezone

from reportqueue import schedules
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.schedules import expansion
from reportqueue.states import Status
from reportqueue.timing import LOOKED_BACK, Timing, _chunk, _next_firing, effort
from reportqueue.timing.calendars import Calendar, ClosedDays, ClosedHours
from reportqueue.timing.catch_up import COUNTED, CatchUpRule, catch_up
from reportqueue.timing.policies import Blackout, CatchUp, Overlap
from tests.conftest import RowFactory

ZONES = sorted(zone for zone in available_timezones() if zone.startswith(("Africa/", "America/")))[:40]
ONE_ALONE = 70_000
"""What the worst of all schedules looks at; most of it readings of a calendar, at some microseconds each."""


def down_for_a_month(count: int = 40, **fields: Any) -> list[int]:
    """Schedules that share nothing, due every minute of 30 days."""
    since = timezone.now().replace(second=0, microsecond=0) - timedelta(days=30)
    made = ReportSchedule.objects.bulk_create(
        ReportSchedule(
            report_id=n,
            modifier_id=2,
            cron="* * * * *",
            timezone=ZONES[n],
            plan_needed=False,
            **fields,
            next_run_at=since + timedelta(minutes=n),
            planned_from=since,
        )
        for n in range(count)
    )
    return [schedule.pk for schedule in made]


def spent_by(call: Any) -> int:
    before = effort.spent()
    call()
    return effort.spent() - before


def moved_on() -> list[int]:
    """The schedules whose month is done; of the minute that has just begun, one may be due again."""
    done = ReportSchedule.objects.filter(next_run_at__gt=timezone.now() - timedelta(days=1))
    return list(done.order_by("pk").values_list("pk", flat=True))


def test_a_batch_ends_when_its_budget_of_instants_is_spent_and_the_longest_due_come_first(db: None):
    pks = down_for_a_month()
    most = batches = 0
    while moved_on() != pks:
        spent = spent_by(lambda: schedules.enqueue_due(batches=1))
        most = max(most, spent)
        done = moved_on()
        assert done == pks[: len(done)], "in the order of their next firing"
        batches += 1
        assert len(done) >= batches, "each batch does one schedule at least"
    assert batches > 5, "not all at once"
    assert most < expansion.BUDGET + 2 * COUNTED, "one schedule more than the budget at most"
    assert ReportQueue.objects.filter(status=Status.QUEUED).count() >= 1000 * len(pks)


def test_a_pass_of_the_scheduler_does_all_of_it_in_such_batches(db: None):
    pks = down_for_a_month(6)
    with mock.patch.object(
        expansion._Expansion, "_fire", autospec=True, side_effect=expansion._Expansion._fire
    ) as fire:
        schedules.enqueue_due()
    assert moved_on() == pks
    assert fire.call_count > 1


def test_planning_has_the_same_budget(db: None):
    pks = down_for_a_month(8)
    ReportSchedule.objects.update(next_run_at=None, plan_needed=True)
    with mock.patch.object(expansion, "BUDGET", 3):
        schedules.enqueue_due(batches=1)
    assert moved_on() == pks[:3]


def test_schedules_whose_earlier_report_is_held_use_up_no_budget(db: None, make_row: RowFactory):
    pks = down_for_a_month(12, overlap=Overlap.QUEUE_ONE)
    for pk in pks[:11]:
        make_row(schedule_id=pk)
    with mock.patch.object(expansion.overlaps, "_lock_turns", return_value=set()):
        spent = spent_by(lambda: schedules.enqueue_due(batches=1))
    assert moved_on() == pks[11:]
    assert spent < expansion.BUDGET


def test_schedules_that_fail_in_an_unforeseen_way_do_not_use_up_the_budget_of_the_others(db: None):
    pks = down_for_a_month(12)
    look = expansion.catch_up

    def fail(timing: Timing, *rest: Any) -> Any:
        found = look(timing, *rest)
        if timing.timezone in ZONES[:11]:
            raise ZeroDivisionError
        return found

    with mock.patch.object(expansion, "catch_up", fail):
        schedules.enqueue_due(batches=1)
    assert moved_on() == pks[11:]


WEEK = Calendar(
    "week",
    days=(ClosedDays(date(2020, 12, 24), date(2020, 12, 31), True),),
    hours=(
        ClosedHours(5),
        ClosedHours(6),
        *(ClosedHours(day, time(0), time(8)) for day in range(5)),
        *(ClosedHours(day, time(18)) for day in range(5)),
    ),
)
TIGHT = Calendar(
    "tight",
    hours=tuple(
        part for day in range(7) for part in (ClosedHours(day, time(0), time(12)), ClosedHours(day, time(12, 5)))
    ),
)
YEAR = Calendar("year", days=(ClosedDays(date(2025, 11, 30), date(2026, 11, 29)),))
TIMINGS = {
    "minutely": {"cron": "* * * * *"},
    "every 10 s": {"cron": "", "interval_seconds": 10},
    **{
        f"{name} {how} {calendar.name}": {**rule, "calendar": calendar, "blackout": how}
        for calendar in (WEEK, TIGHT, YEAR)
        for name, rule, hows in [
            ("minutely", {"cron": "* * * * *"}, [Blackout.SKIP]),
            ("every 10 s", {"cron": "", "interval_seconds": 10}, [Blackout.SKIP]),
            ("quarter-hourly", {"cron": "*/15 * * * *"}, [Blackout.NEXT_DAY, Blackout.PREVIOUS_DAY]),
        ]
        for how in hows
    },
}


@pytest.mark.parametrize("policy", list(CatchUp))
@pytest.mark.parametrize("name", TIMINGS)
def test_a_year_without_a_scheduler_is_bounded_for_each_single_schedule(name: str, policy: CatchUp):
    _next_firing.cache_clear()
    _chunk.cache_clear()
    given: dict[str, Any] = TIMINGS[name]
    if (calendar := given.get("calendar")) is not None:
        given = given | {"calendar": Calendar(calendar.name, calendar.days, calendar.hours)}  # which knows nothing yet
    timing = Timing(timezone="Europe/Berlin", **given)
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    since = now - timedelta(days=366)
    planned = timing.next_firing(since)
    assert planned is not None
    year = timedelta(days=366)
    rule = CatchUpRule(policy=policy, window=year, limit=1000, grace=timedelta(seconds=60))
    spent = spent_by(lambda: catch_up(timing, rule, planned, since, now))
    assert spent < ONE_ALONE


def test_what_a_search_in_vain_leaves_is_settled_all_the_same():
    """Nothing fires within what is looked at: the next firing lies ahead, and what was missed is noted."""
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    planned = datetime(2025, 11, 29, 23, 59, tzinfo=UTC)
    timing = Timing(cron="* * * * *", timezone="UTC", calendar=YEAR)
    rule = CatchUpRule(policy=CatchUp.ALL, window=timedelta(days=366), limit=1000, grace=timedelta(seconds=60))
    assert timedelta(minutes=LOOKED_BACK) < now - planned
    caught_up = catch_up(timing, rule, planned, planned - timedelta(seconds=1), now)
    assert caught_up.fires == ()
    assert [(skip.reason, skip.instants[0], skip.complete) for skip in caught_up.skips] == [
        ("misfire", planned, False),
        ("blackout", datetime(2025, 11, 30, tzinfo=UTC), False),
    ]
    assert caught_up.planned_from == now
    assert caught_up.next_run_at == datetime(2026, 11, 30, tzinfo=UTC)
