"""Many callers at the same instant, each with a connection of its own: every row is handed out once, every race has
one winner, and what came out could have come out of the same calls one after the other.

At most 16 connections, and the test's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest

from reportqueue import locks, queue
from reportqueue.errors import InvalidTransition, LeaseLost
from reportqueue.models import ReportQueue
from reportqueue.queue import transitions
from reportqueue.states import Outcome, Status
from tests.concurrency import at_once
from tests.conftest import build_row, minutes_ago
from tests.integration.model import SETTINGS, Attempt, Content, Model, Refused, Row

CLAIMERS = 16
ROUNDS = 30

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quiet(settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each call gets its lock, however slow the machine is: that one would be busy is another test's subject.
    settings.REPORTQUEUE = {**SETTINGS, "LOCK_TIMEOUT_SECONDS": 30}
    monkeypatch.setattr(locks, "IMPATIENT_SECONDS", 30)
    monkeypatch.setattr(transitions, "BATCH_SECONDS", 30)
    caplog.set_level("ERROR", logger="reportqueue")


def test_of_sixteen_runs_one_starts_the_row():
    row = build_row(status=Status.DISPATCHED)
    answers = at_once([lambda n=n: queue.start(row.pk, generation=1, run_id=f"run-{n}") for n in range(CLAIMERS)])
    (winner,) = [answer for answer in answers if isinstance(answer, ReportQueue)]
    losers = [answer for answer in answers if answer is not winner]
    assert {type(loser) for loser in losers} == {InvalidTransition}
    assert {loser.current_status for loser in losers} == {Status.RUNNING}
    row.refresh_from_db()
    assert (row.run_id, row.lease_token, row.attempt) == (winner.run_id, winner.lease_token, 1)
    assert [attempt.run_id for attempt in row.attempts.all()] == [winner.run_id]


def test_one_run_that_starts_sixteen_times_is_one_attempt():
    row = build_row(status=Status.DISPATCHED)
    answers = at_once([lambda: queue.start(row.pk, generation=1, run_id="run")] * CLAIMERS)
    assert {type(answer) for answer in answers} == {ReportQueue}
    assert len({answer.lease_token for answer in answers}) == 1
    row.refresh_from_db()
    assert (row.attempt, row.attempts.count()) == (1, 1)


Call = tuple[str, dict[str, Any]]
"""A verb of the model's, with its arguments but for the row."""
REAL: dict[str, Callable[..., Any]] = {
    "start": lambda pk, **args: queue.start(pk, **args),
    "complete": lambda pk, token: queue.complete(pk, lease_token=token),
    "fail": lambda pk, token: queue.fail(pk, lease_token=token, error="boom"),
    "release": lambda pk, token: queue.release(pk, lease_token=token),
    "cancel": lambda pk, token=None: queue.cancel(pk, lease_token=token),
    "requeue": lambda pk: queue.requeue(pk),
    "release_claimed": lambda pk, claim: queue.release_claimed(pk, claim_id=claim),
    "fail_launch": lambda pk, **args: queue.fail_launch(pk, error="no image", **args),
    "rescue": lambda pk: queue.rescue_expired(),
}


def one_after_the_other(row: Row, calls: list[Call]) -> set[Any]:
    """What each call may answer, and what may become of the row, over all orders of the calls.

    A rescue passes over a row that somebody else has locked: that is, it may also find nothing.
    """
    found = set()
    for order in permutations(range(len(calls))):
        for rescue_passes in (False, True):
            model = Model()
            model.rows[row.n] = mine = deepcopy(row)
            answers: list[Any] = [None] * len(calls)
            for place in order:
                verb, args = calls[place]
                try:
                    if verb == "rescue":
                        answers[place] = (0, 0) if rescue_passes else model.rescue()
                    else:
                        getattr(model, verb)(row.n, **args)
                        answers[place] = mine.status
                except Refused as refusal:
                    answers[place] = refusal.why
            ends = tuple(attempt.outcome for attempt in mine.attempts)
            found.add((tuple(answers), mine.status, mine.attempt, mine.asked_to_cancel, ends))
    return found


def told(answer: Any) -> Any:
    if isinstance(answer, ReportQueue):
        return str(answer.status)
    if isinstance(answer, queue.Rescued):
        return answer.queued, answer.ended
    return {InvalidTransition: "state", LeaseLost: "owner"}.get(type(answer), answer)


def race(row: ReportQueue, calls: list[Call], seed: int) -> Any:
    """Make the calls at once, in some order; what they answered, in the order given, and what became of the row."""
    places = list(range(len(calls)))
    random.Random(seed).shuffle(places)
    acts = [
        lambda verb=verb, args=args: REAL[verb](row.pk, **args) for verb, args in (calls[place] for place in places)
    ]
    answers = dict(zip(places, at_once(acts), strict=True))
    row.refresh_from_db()
    ends = tuple(row.attempts.order_by("id").values_list("outcome", flat=True))
    outcome = (row.status, row.attempt, row.cancel_requested, ends)
    return (tuple(told(answers[place]) for place in sorted(places)), *outcome)


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_of_all_ends_that_come_at_once_one_wins(max_attempts: int):
    token = uuid4()
    calls: list[Call] = [
        ("complete", {"token": token}),
        ("fail", {"token": token}),
        ("cancel", {"token": token}),
        ("rescue", {}),
        ("cancel", {}),
        ("requeue", {}),
    ]
    attempt = Attempt("run", "", 1, 1, 0, place=0, at=0, counted=False, token=token)
    content = Content(max_attempts=max_attempts)
    running = Row(1, content, 0, 0, "running", 1, 1, consumer="sensor", lease=0, token=token, attempts=[attempt])
    possible = one_after_the_other(running, calls)
    for seed in range(ROUNDS):
        row = build_row(
            status=Status.RUNNING, lease_expires_at=minutes_ago(1), lease_token=token, max_attempts=max_attempts
        )
        result = race(row, calls, seed)
        assert result in possible
        completed, failed, cancelled, rescued = result[0][:4]
        refused = [answer for answer in (completed, failed, cancelled) if answer == "owner"]
        assert len(refused) + (rescued == (0, 0)) == 3, "one wins, the others are told that they have lost"
        (end,) = result[-1]
        winner = next(
            name
            for name, answer, lost in (
                (Outcome.SUCCEEDED, completed, "owner"),
                (Outcome.FAILED, failed, "owner"),
                (Outcome.CANCELLED, cancelled, "owner"),
                (Outcome.EXPIRED, rescued, (0, 0)),
            )
            if answer != lost
        )
        assert end == winner
        row.delete()


def test_of_all_that_may_become_of_a_launch_at_once_one_comes_first():
    claim_id = uuid4()
    calls: list[Call] = [
        ("start", {"generation": 1, "run_id": "run-1"}),
        ("start", {"generation": 1, "run_id": "run-2"}),
        ("fail_launch", {"generation": 1, "run_id": "run-3"}),
        ("release_claimed", {"claim": claim_id}),
        ("cancel", {}),
        ("rescue", {}),
    ]
    dispatched = Row(1, Content(max_attempts=3), 0, 0, "dispatched", 1, consumer="sensor", claim=claim_id, lease=0)
    possible = one_after_the_other(dispatched, calls)
    for seed in range(ROUNDS):
        row = build_row(status=Status.DISPATCHED, lease_expires_at=minutes_ago(1), claim_id=claim_id)
        result = race(row, calls, seed)
        assert result in possible
        assert len(result[-1]) <= 1, "one run owns the row, if any"
        row.delete()
