"""Caps while others are at work at the same time, each with a connection of its own.

Sixteen claimers, watched by a connection that samples; and each move that changes what is under way, against claims.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, connections

from reportqueue import queue
from reportqueue.errors import ReportQueueError
from reportqueue.models import Report, ReportAttempt, ReportQueue
from reportqueue.states import LEASED, Status
from tests.concurrency import at_once, patiently
from tests.conftest import build_row, minutes_ago
from tools.chaos import caps

pytestmark = pytest.mark.django_db(transaction=True)
CLAIMERS, ROWS, BATCH = 16, 20_000, 100
CAPPED = {1: (40, 3), 2: (1, None), 3: (None, 2)}
"""The caps of a report: of all its rows, and of each modifier of it."""
ROUNDS = 8


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", logger="reportqueue")


def too_many(held: Counter[tuple[int, int]]) -> list[str]:
    """What goes beyond a cap, of the rows under way by report and modifier."""
    of_report: Counter[int] = Counter()
    for (report, _), rows in held.items():
        of_report[report] += rows
    over = [
        f"report {report}: {of_report[report]}"
        for report, (cap, _) in CAPPED.items()
        if of_report[report] > (cap or ROWS)
    ]
    return over + [f"{key}: {rows}" for key, rows in held.items() if rows > (CAPPED.get(key[0], (0, 0))[1] or ROWS)]


@contextmanager
def sampled(over: list[str], seen: Counter[int]) -> Iterator[None]:
    """Look again and again at what is under way, by a connection of its own; `seen` gets the most of each report."""
    stop = threading.Event()

    def look() -> None:
        try:
            while not stop.wait(0.002):
                leased = ReportQueue.objects.filter(status__in=LEASED).values_list("report_id", "modifier_id")
                held = Counter(leased)
                over.extend(too_many(held))
                for report in CAPPED:
                    seen[report] = max(seen[report], sum(rows for key, rows in held.items() if key[0] == report))
        finally:
            connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_sixteen_claimers_never_go_beyond_a_cap():
    for report, (cap, per_modifier) in CAPPED.items():
        Report(report_id=report, name=f"Report {report}", max_running=cap, max_running_per_modifier=per_modifier).save()
    due = minutes_ago(1)
    # Most are of the report without a cap: those that have one are made one after the other.
    reports = [1] * 5 + [2] + [3] * 4 + [4] * 90
    ReportQueue.objects.bulk_create(
        (
            ReportQueue(report_id=reports[n % 100], modifier_id=n // 100 % 20, trigger_time=due, available_at=due)
            for n in range(ROWS)
        ),
        batch_size=2_000,
    )

    def work(name: str) -> Counter[int]:
        made: Counter[int] = Counter()
        ack = None
        while True:
            claim = patiently(queue.claim, name, ack=ack, limit=BATCH)
            ack = claim.claim_id
            if not claim.rows:
                if not ReportQueue.objects.filter(status=Status.QUEUED).exists():
                    return made
                continue
            keys = {row.pk: row.generation for row in claim.rows}
            started = patiently(queue.start_many, keys, run_id=f"run-{ack}")
            tokens = {pk: row.lease_token for pk, row in started.items() if not isinstance(row, Exception)}
            assert tokens.keys() == keys.keys()
            ended = {pk: token for pk, token in tokens.items() if token}
            patiently(queue.complete_many, ended, results={})
            made.update(row.report_id for row in claim.rows)

    over: list[str] = []
    seen: Counter[int] = Counter()
    with sampled(over, seen):
        answers = at_once([lambda name=f"sensor-{n}": work(name) for n in range(CLAIMERS)])
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert over == []
    assert all(seen[report] for report in CAPPED), "the sampler saw nothing of a capped report"
    assert seen[1] > 3, "the claimers never had several rows of it at once"
    assert set(ReportQueue.objects.values_list("status", "attempt")) == {(Status.SUCCEEDED, 1)}
    assert most_at_once() == []


def most_at_once() -> list[str]:
    """The same as the sampler's question, from the times of all attempts."""
    changes: list[tuple[datetime, int, tuple[int, int]]] = []
    attempts = ReportAttempt.objects.filter(queue__report_id__in=CAPPED)
    for begin, end, *key in attempts.values_list("started_at", "finished_at", "queue__report_id", "queue__modifier_id"):
        changes += [(begin, 1, (key[0], key[1])), (end, -1, (key[0], key[1]))]
    held: Counter[tuple[int, int]] = Counter()
    over: list[str] = []
    for _, change, key in sorted(changes):  # an end before a begin at the same instant
        held[key] += change
        over += too_many(held)
    return over


Move = Callable[[ReportQueue], Any]
MOVES: dict[str, tuple[dict[str, Any], Move, int]] = {
    # The row before, the move, and how many rows may be under way afterwards.
    "start": (
        {"status": Status.DISPATCHED},
        lambda row: queue.start(row.pk, generation=1, run_id="run"),
        1,
    ),
    "start of a row that is queued again": (
        {"status": Status.QUEUED, "generation": 1},
        lambda row: queue.start(row.pk, generation=1, run_id="run"),
        2,
    ),
    "re-execution": (
        {"status": Status.SUCCEEDED, "run_id": "first"},
        lambda row: queue.start(row.pk, generation=1, run_id="again", parent_run_id="first"),
        2,
    ),
    "complete": (
        {"status": Status.RUNNING},
        lambda row: queue.complete(row.pk, lease_token=row.lease_token),
        1,
    ),
    "fail": (
        {"status": Status.RUNNING},
        lambda row: queue.fail(row.pk, lease_token=row.lease_token, error="x"),
        1,
    ),
    "release": ({"status": Status.RUNNING}, lambda row: queue.release(row.pk, lease_token=row.lease_token), 1),
    "cancel by the run": (
        {"status": Status.RUNNING},
        lambda row: queue.cancel(row.pk, lease_token=row.lease_token),
        1,
    ),
    "cancel by a person": ({"status": Status.DISPATCHED}, lambda row: queue.cancel(row.pk), 1),
    "rescue": (
        {"status": Status.RUNNING, "lease_expires_at": minutes_ago(1)},
        lambda row: queue.rescue_expired(),
        1,
    ),
    "requeue": ({"status": Status.SUCCEEDED}, lambda row: queue.requeue(row.pk), 1),
    "release of a claim": (
        {"status": Status.CLAIMED},
        lambda row: queue.release_claimed(row.pk, claim_id=row.claim_id),
        1,
    ),
    "failed launch": (
        {"status": Status.DISPATCHED},
        lambda row: queue.fail_launch(row.pk, generation=1, run_id="run", error="no image"),
        1,
    ),
    "expiry": (
        {"status": Status.QUEUED, "expires_at": minutes_ago(1)},
        lambda row: queue.skip_too_late(),
        1,
    ),
    "pause": ({"status": Status.QUEUED}, lambda row: queue.pause(report_id=1), 1),
    "lower cap": ({"status": Status.QUEUED}, lambda row: Report.objects.get(pk=1).save(), 1),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_move_beside_claims_leaves_no_row_over_the_cap_and_no_room_unused(move: str):
    values, act, most = MOVES[move]
    Report(report_id=1, name="Capped", max_running=1).save()
    under_way = 0
    for place in range(ROUNDS):
        ReportQueue.objects.all().delete()
        for pause in queue.paused():
            queue.resume(report_id=pause.report_id)
        row = build_row(**values)
        waiting = [build_row() for _ in range(4)]
        claims = [lambda name=f"sensor-{place}-{n}": queue.claim(name, limit=3) for n in range(3)]
        moved, *claimed = at_once([lambda row=row: act(row), *claims])
        assert not isinstance(moved, Exception) or isinstance(moved, ReportQueueError), moved
        assert [claim for claim in claimed if isinstance(claim, Exception)] == []
        leased = ReportQueue.objects.filter(status__in=LEASED)
        assert leased.count() <= most, list(leased)
        under_way = max(under_way, leased.count())
        # Whatever happened, each further claim makes one row at a time, until all are made.
        queue.resume(report_id=1)
        for row in ReportQueue.objects.filter(status__in=LEASED):
            end(row)
        ReportQueue.objects.filter(status=Status.QUEUED).update(available_at=minutes_ago(1))
        rows_left = ReportQueue.objects.filter(status=Status.QUEUED).count()
        for number in range(rows_left):
            (claimed_row,) = queue.claim(f"last-{place}-{number}", limit=3).rows
            end(claimed_row)
        assert (
            not ReportQueue.objects.filter(pk__in=[one.pk for one in waiting]).exclude(status=Status.SUCCEEDED).exists()
        )
    assert under_way, "nothing was ever under way"


def end(row: ReportQueue) -> None:
    """Have its run make it."""
    if row.status != Status.RUNNING:
        row = queue.start(row.pk, generation=row.generation, run_id=f"run-{row.pk}-{row.generation}")
    assert row.lease_token is not None
    queue.complete(row.pk, lease_token=row.lease_token)


def test_the_chaos_counts_what_a_claim_has_let_in():
    """Not what started by itself: a row that was queued again and started by its old run, or that was re-executed."""
    build_row(report_id=4, status=Status.CLAIMED)
    build_row(report_id=4, status=Status.DISPATCHED)
    build_row(report_id=4, status=Status.RUNNING)
    build_row(report_id=4, status=Status.SUCCEEDED)
    build_row(report_id=4)
    build_row(report_id=1, status=Status.RUNNING)
    queued_again = build_row(report_id=5, generation=1)
    queue.start(queued_again.pk, generation=1, run_id="old")
    again = build_row(report_id=5, status=Status.SUCCEEDED, run_id="first")
    queue.start(again.pk, generation=1, run_id="again", parent_run_id="first")
    with connection.cursor() as cursor:
        cursor.execute(caps.UNDER_WAY, [list(caps.CAPS)])
        assert cursor.fetchall() == [(4, 3)]
