"""The queue's verbs refuse from Python what the API refuses: a number is never rounded, and 0 is not "the default"."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError

from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import RowFactory

pytestmark = pytest.mark.django_db
NOT_WHOLE = [1.9, 60.0, Decimal("2.5"), True, "60", float("nan")]
TOKEN = uuid4()


def claim(**given: Any) -> Any:
    return queue.claim("sensor", **given)


CALLS: list[tuple[str, tuple[int, int], Callable[..., Any]]] = [
    ("limit", (1, 1_000), claim),
    ("lease_seconds", (5, 86_400), claim),
    ("dispatch_lease_seconds", (5, 86_400), claim),
    ("max_in_flight", (1, 2**31 - 1), claim),
    ("max_unstarted", (1, 2**31 - 1), claim),
    ("generation", (1, 2**31 - 1), lambda generation: queue.start(1, generation=generation, run_id="run")),
    ("generation", (1, 2**31 - 1), lambda generation: queue.start_many({1: 1, 2: generation}, run_id="run")),
    ("lease_seconds", (5, 86_400), lambda **given: queue.start(1, generation=1, run_id="run", **given)),
    ("generation", (1, 2**31 - 1), lambda generation: queue.renew_dispatch(1, generation=generation, run_id="run")),
    ("lease_seconds", (5, 86_400), lambda **given: queue.renew_dispatch(1, generation=1, run_id="run", **given)),
    ("lease_seconds", (5, 86_400), lambda **given: queue.heartbeat(1, lease_token=TOKEN, **given)),
    (
        "generation",
        (1, 2**31 - 1),
        lambda generation: queue.fail_launch(1, generation=generation, run_id="run", error="no"),
    ),
    (
        "retry_after_seconds",
        (0, 30 * 86_400),
        lambda **given: queue.fail(1, lease_token=TOKEN, error="no", **given),
    ),
    ("delay_seconds", (0, 30 * 86_400), lambda **given: queue.release(1, lease_token=TOKEN, **given)),
    ("delay_seconds", (0, 30 * 86_400), lambda **given: queue.release_claimed(1, claim_id=TOKEN, **given)),
    ("keep", (0, 1_000_000), lambda keep: queue.prunable(older_than=timedelta(days=1), keep=keep)),
    ("keep", (0, 1_000_000), lambda keep: list(queue.prune(older_than=timedelta(days=1), keep=keep))),
    ("batch", (1, 10_000), lambda batch: list(queue.prune(older_than=timedelta(days=1), batch=batch))),
    ("limit", (1, 1_000), queue.rescue_expired),
]


@pytest.mark.parametrize(("name", "bounds", "call"), CALLS)
def test_a_number_that_is_not_whole_or_beyond_its_bound_is_refused_by_name(
    name: str, bounds: tuple[int, int], call: Callable[..., Any]
):
    low, high = bounds
    for value in (low - 1, high + 1, *NOT_WHOLE):
        with pytest.raises(ValidationError) as refusal:
            call(**{name: value})
        assert refusal.value.message_dict == {name: [f"Must be a whole number from {low:,} to {high:,}."]}, value


def test_a_refused_claim_claims_nothing(make_row: RowFactory):
    row = make_row()
    with pytest.raises(ValidationError):
        claim(limit=1.9)
    row.refresh_from_db()
    assert row.status == Status.QUEUED


@pytest.mark.parametrize("wrong", [lambda pk: pk + 0.9, lambda pk: str(pk), lambda pk: None])
@pytest.mark.parametrize(
    "verb",
    [
        queue.cancel,
        queue.requeue,
        queue.mark_processed,
        lambda pk: queue.start(pk, generation=1, run_id="run"),
        lambda pk: queue.heartbeat_many({pk: TOKEN}),
        lambda pk: queue.complete(pk, lease_token=TOKEN),
    ],
)
def test_the_id_of_a_row_is_never_rounded(
    make_row: RowFactory, verb: Callable[[Any], Any], wrong: Callable[[int], Any]
):
    row = make_row()
    before = ReportQueue.objects.values().get(pk=row.pk)
    with pytest.raises(ValidationError, match="id of a row must be a whole number"):
        verb(wrong(row.pk))
    assert ReportQueue.objects.values().get(pk=row.pk) == before
