"""Many at once, each with a connection of its own: every row goes to one of them."""

from __future__ import annotations

from collections import Counter

import pytest

from reportqueue import queue
from reportqueue.errors import ReportQueueError
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import FINAL, Outcome, Status
from tests.concurrency import at_once, patiently
from tests.conftest import build_row, minutes_ago

CLAIMERS = 16
ROWS = 20_000
BATCH = 100


@pytest.mark.django_db(transaction=True)
def test_sixteen_claimers_share_twenty_thousand_rows_and_no_row_has_two():
    due = minutes_ago(1)
    ReportQueue.objects.bulk_create(
        (ReportQueue(report_id=1, modifier_id=n, trigger_time=due, available_at=due) for n in range(ROWS)),
        batch_size=2_000,
    )

    def claim_all(consumer: str) -> list[str]:
        keys: list[str] = []
        ack = None
        while (claim := patiently(queue.claim, consumer, ack=ack, limit=BATCH)).rows:
            keys += [str(row.run_key) for row in claim.rows]
            ack = claim.claim_id
        return keys

    answers = at_once([lambda name=f"sensor-{n}": claim_all(name) for n in range(CLAIMERS)])
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    # A consumer may get a row again under its run key, for which there is one run: on a busy machine, another claim may
    # look at the row for longer than the acknowledgement waits.
    handed_out = Counter(key for keys in answers for key in set(keys))
    assert len(handed_out) == ROWS
    assert set(handed_out.values()) == {1}
    assert sum(bool(keys) for keys in answers) > 1, "one claimer took everything: nothing was at once"
    assert not ReportQueue.objects.exclude(status=Status.DISPATCHED, generation=1).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_", range(20))
def test_everybody_who_wants_one_row_at_once_leaves_it_in_one_consistent_end(_: int):
    row = build_row(status=Status.RUNNING, lease_expires_at=minutes_ago(1), max_attempts=1)
    calls = [
        lambda: queue.complete(row.pk, lease_token=row.lease_token),
        lambda: queue.fail(row.pk, lease_token=row.lease_token, error="x"),
        lambda: queue.cancel(row.pk, lease_token=row.lease_token),
        lambda: queue.cancel(row.pk),
        lambda: queue.rescue_expired(),
        lambda: queue.requeue(row.pk),
        lambda: queue.start(row.pk, generation=1, run_id="another"),
    ]
    answers = at_once(calls)
    assert all(isinstance(answer, ReportQueueError) for answer in answers if isinstance(answer, Exception)), answers
    row.refresh_from_db()
    first = row.attempts.order_by("pk").first()
    assert first is not None
    assert first.outcome in set(Outcome) - {Outcome.RELEASED}
    ended = [answer for answer in answers[:3] if not isinstance(answer, Exception)]
    assert len(ended) <= 1, "two callers ended the same attempt"
    assert ReportAttempt.objects.filter(queue=row, outcome="").count() == (row.status == Status.RUNNING)
    assert (row.finished_at is not None) == (row.status in FINAL)
