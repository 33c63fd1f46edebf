"""Failed rows have the fingerprint of their error, by whichever road they failed; rows of other statuses have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from reportqueue import bounds, failures, queue
from reportqueue.models import ReportQueue
from reportqueue.queue import transitions
from reportqueue.states import Status, Verb
from tests.conftest import build_row, minutes_ago

pytestmark = pytest.mark.django_db
LAST = {"attempt": 3, "max_attempts": 3}
"""Of a row on its last attempt."""


def running(**fields: Any) -> ReportQueue:
    return build_row(status=Status.RUNNING, **LAST, **fields)


def by_its_run() -> ReportQueue:
    row = running()
    return queue.fail(row.pk, lease_token=row.lease_token, error="ValueError: order 5")


def not_retryable() -> ReportQueue:
    row = build_row(status=Status.RUNNING)
    return queue.fail(row.pk, lease_token=row.lease_token, error="ValueError: order 5", retryable=False)


def lease_lost() -> ReportQueue:
    row = running(lease_expires_at=minutes_ago(1))
    queue.rescue_expired()
    return row


def interrupted_too_often() -> ReportQueue:
    row = running(releases=1_000)
    return queue.release(row.pk, lease_token=row.lease_token, reason="Run 7 was interrupted.")


def never_started() -> ReportQueue:
    row = build_row(status=Status.DISPATCHED, unstarted_runs=100)
    return queue.fail_launch(row.pk, generation=1, run_id=str(uuid4()), error="no module")


def handed_out_too_often() -> ReportQueue:
    row = build_row(generation=bounds.MAX_COUNT)
    queue.claim(consumer="sensor", limit=1)
    return row


FAILING = [by_its_run, not_retryable, lease_lost, interrupted_too_often, never_started, handed_out_too_often]


@pytest.mark.parametrize("road", FAILING)
def test_a_row_that_fails_has_the_fingerprint_of_its_error(road: Callable[[], ReportQueue]):
    row = road()
    stored = ReportQueue.objects.get(pk=row.pk)
    assert (stored.status, bool(stored.error)) == (Status.FAILED, True)
    assert stored.fingerprint == failures.fingerprint(stored.error)


def test_the_fingerprint_is_in_the_answer_as_in_the_table():
    row = by_its_run()
    assert row.fingerprint == failures.fingerprint("ValueError: order 17")


@pytest.mark.parametrize("shared", [True, False])
def test_of_rows_that_fail_together_each_has_its_own(shared: bool):
    rows = [running(error="old") for _ in range(3)]
    errors = {row.pk: f"ValueError: {word}" for row, word in zip(rows, ("no rows", "no rows", "no lines"), strict=True)}
    with transitions.locked_many(errors, {}) as (locked, now):
        if shared:
            transitions.finish_all(locked, Verb.FAIL, Status.FAILED, now, error="KeyError: 1")
        else:
            transitions.finish_all(locked, Verb.FAIL, Status.FAILED, now, {"error": errors})
    for row in ReportQueue.objects.all():
        assert row.fingerprint == failures.fingerprint("KeyError: 2" if shared else errors[row.pk])


def test_a_row_that_is_tried_again_has_none():
    row = build_row(status=Status.RUNNING)
    again = queue.fail(row.pk, lease_token=row.lease_token, error="ValueError: order 5")
    assert (again.status, again.fingerprint) == (Status.QUEUED, "")


@pytest.mark.parametrize("how", ["cancelled", "completed", "asked to cancel"])
def test_a_row_with_another_end_has_none(how: str):
    row = running(error="ValueError: an earlier attempt", cancel_requested=how == "asked to cancel")
    token = row.lease_token
    if how == "cancelled":
        queue.cancel(row.pk, lease_token=token)
    elif how == "completed":
        queue.complete(row.pk, lease_token=token)
    else:
        queue.fail(row.pk, lease_token=token, error="ValueError: order 5")
    row.refresh_from_db()
    assert row.status in (Status.CANCELLED, Status.SUCCEEDED)
    assert row.fingerprint == ""


def test_a_requeued_row_has_none():
    row = by_its_run()
    assert queue.requeue(row.pk, reason="again").fingerprint == ""
    assert ReportQueue.objects.get().fingerprint == ""


def test_a_row_that_a_person_executes_again_has_none():
    row = by_its_run()
    ReportQueue.objects.update(run_id="first")
    queue.start(row.pk, generation=1, run_id="second", parent_run_id="first")
    row.refresh_from_db()
    assert (row.status, row.fingerprint) == (Status.RUNNING, "")


def test_what_older_code_has_left_is_cleared_by_the_next_move():
    row = build_row(status=Status.RUNNING, fingerprint="0" * 16)  # older code has requeued and started it
    queue.complete(row.pk, lease_token=row.lease_token)
    assert ReportQueue.objects.get().fingerprint == ""
