"""A row that leaves its final status is counted once for each time that it ended, whenever the periods are measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from reportqueue import bulk, measures, queue, totals
from reportqueue.clock import database_now
from reportqueue.models import Depth, ReportQueue, UnmeasuredEnd
from reportqueue.models.measure import OTHERS
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import build_row
from tests.integration.test_measures import ended

pytestmark = pytest.mark.django_db
PERIOD = timedelta(seconds=measures.SHORT)


@pytest.fixture
def begin() -> datetime:
    """The begin of a period that ended some minutes ago; only the one before has been measured."""
    begin = measures._begin(database_now(), measures.SHORT) - 2 * PERIOD
    Depth(start=begin - PERIOD).save()
    return begin


def failed(at: datetime, **fields: int) -> int:
    """The id of a row that failed then."""
    ended(at, status=Status.FAILED, **fields)
    return ReportQueue.objects.latest("pk").pk


def measure(begin: datetime) -> None:
    """All periods up to that one are measured."""
    while measures.roll_up(begin + PERIOD + timedelta(seconds=measures.SETTLED_SECONDS)):
        pass


def counted() -> Counter[str]:
    """How many ends the counters have, by the status; the same as the overview has."""
    of_totals: Counter[str] = Counter()
    for total in totals.read(10).values():
        of_totals.update(total.ended)
    of_overview: Counter[str] = Counter()
    for of_report in measures.read(measures.SPANS[1], database_now()).reports:
        of_overview.update(of_report.ended)
    assert of_totals == of_overview
    return of_totals


def make_again(pk: int) -> None:
    queue.requeue(pk)


def execute_again(pk: int) -> None:
    row = ReportQueue.objects.get(pk=pk)
    queue.start(pk, generation=1, run_id="again", parent_run_id=row.run_id)


def requeue_together(pk: int) -> None:
    queue.requeue_together([pk])


def prune(pk: int) -> None:
    assert sum(done.deleted for done in queue.prune(older_than=timedelta(0))) == 1


FORGETS = [make_again, execute_again, requeue_together, prune]


@pytest.mark.parametrize("forget", FORGETS)
def test_an_end_counts_although_its_row_has_forgotten_it(begin: datetime, forget: Callable[[int], None]):
    pk = failed(begin + timedelta(minutes=1), report_id=7)
    forget(pk)
    measure(begin)
    assert counted() == {"failed": 1}
    (of_report,) = measures.read(measures.SPANS[1], database_now()).reports
    assert of_report.report_id == 7
    assert of_report.waited is not None
    assert of_report.ran is not None
    assert of_report.ran.p50 == pytest.approx(10, rel=0.13), "its times count, too"


@pytest.mark.parametrize("forget", FORGETS)
def test_an_end_that_was_measured_before_does_not_count_again(begin: datetime, forget: Callable[[int], None]):
    pk = failed(begin + timedelta(minutes=1))
    measure(begin)
    forget(pk)
    measure(begin + PERIOD)
    assert counted() == {"failed": 1}


def test_each_of_several_ends_in_one_period_counts(begin: datetime):
    pk = failed(begin + timedelta(minutes=1))
    for minutes in (2, 3):
        queue.requeue(pk)
        started = queue.start(pk, generation=1, run_id=f"run {minutes}")
        queue.fail(pk, lease_token=started.lease_token, error="no", retryable=False)
        ReportQueue.objects.filter(pk=pk).update(finished_at=begin + timedelta(minutes=minutes))
    measure(begin)
    assert counted() == {"failed": 3}


def test_the_rows_of_a_bulk_action_count(begin: datetime):
    for _ in range(5):
        failed(begin + timedelta(minutes=1))
    bulk.start("requeue", {"status": "failed"})
    while bulk.step(1).left:
        pass
    assert not ReportQueue.objects.filter(status=Status.FAILED).exists()
    measure(begin)
    assert counted() == {"failed": 5}


@contextmanager
def in_between(monkeypatch: pytest.MonkeyPatch, name: str, meanwhile: Callable[[], object]) -> Iterator[None]:
    """Right before a function of `measures` is called, another connection does something to its end."""
    real = getattr(measures, name)

    def first(*args: object) -> object:
        monkeypatch.setattr(measures, name, real)
        (done,) = at_once([meanwhile])
        assert not isinstance(done, Exception), done
        return real(*args)

    monkeypatch.setattr(measures, name, first)
    yield
    assert getattr(measures, name) is real, "it was called"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("forget", FORGETS)
def test_a_period_that_is_measured_while_a_row_forgets_counts_it_once(begin: datetime, forget: Callable[[int], None]):
    pk = failed(begin + timedelta(minutes=1))
    with transaction.atomic():
        forget(pk)
        (done,) = at_once([lambda: measure(begin)])
        assert not isinstance(done, Exception), done
    assert counted() == {"failed": 1}
    measure(begin + PERIOD)
    assert counted() == {"failed": 1}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("forget", FORGETS)
@pytest.mark.parametrize("moment", ["_last_rolled_up", "_roll_up", "_depth", "_forget"])
def test_a_row_that_forgets_while_its_period_is_measured_counts_once(
    begin: datetime, forget: Callable[[int], None], moment: str, monkeypatch: pytest.MonkeyPatch
):
    pk = failed(begin + timedelta(minutes=1))
    with in_between(monkeypatch, moment, lambda: forget(pk)):
        measure(begin)
    assert counted() == {"failed": 1}
    measure(begin + PERIOD)
    assert counted() == {"failed": 1}


def test_what_is_kept_of_ends_is_only_what_has_not_been_measured(begin: datetime):
    for minutes in (-60 * 24 * 3, -60, 1):
        queue.requeue(failed(begin + timedelta(minutes=minutes)))
    assert [one.finished_at for one in UnmeasuredEnd.objects.all()] == [begin + timedelta(minutes=1)]
    measure(begin)
    measure(begin + PERIOD)
    assert not UnmeasuredEnd.objects.exists()


def test_what_ended_long_ago_is_not_kept_although_nothing_was_ever_measured(begin: datetime):
    Depth.objects.all().delete()
    for hours in (26, 1):
        queue.requeue(failed(begin - timedelta(hours=hours)))
    assert UnmeasuredEnd.objects.count() == 1


def test_reports_beyond_the_busiest_share_their_count(begin: datetime, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measures, "REPORTS", 1)
    for report_id in (1, 1, 2):
        queue.requeue(failed(begin + timedelta(minutes=1), report_id=report_id))
    measure(begin)
    assert {pk: total.ended for pk, total in totals.read(10).items()} == {1: {"failed": 2}, OTHERS: {"failed": 1}}


def test_it_costs_one_statement_for_all_rows_of_a_call(begin: datetime):
    pks = [failed(begin + timedelta(minutes=1)) for _ in range(20)]
    with CaptureQueriesContext(connection) as ran:
        queue.requeue_together(pks)
    (statement,) = [one["sql"] for one in ran if "unmeasuredend" in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the tables of a test are small
        cursor.execute(f"EXPLAIN {statement}")
        assert "Seq Scan" not in str(cursor.fetchall())


def test_moves_of_unfinished_rows_cost_nothing_more(begin: datetime):
    row = build_row(status=Status.DISPATCHED)
    with CaptureQueriesContext(connection) as ran:
        started = queue.start(row.pk, generation=1, run_id="run")
        queue.complete(row.pk, lease_token=started.lease_token)
    assert "unmeasuredend" not in str(ran.captured_queries)
