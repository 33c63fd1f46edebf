"""While somebody edits a schedule, in however long a transaction, the rows that it has made go on."""

from collections.abc import Callable

import pytest
from django.db import connection, transaction

from reportqueue import queue
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import build_row


def make(end: Callable[[int, object], object]) -> None:
    """One row's whole life, as a consumer and its run lead it."""
    claim = queue.claim("sensor")
    queue.claim("sensor", ack=claim.claim_id)
    (row,) = claim.rows
    started = queue.start(row.pk, generation=row.generation, run_id="run")
    queue.heartbeat(row.pk, lease_token=started.lease_token)
    end(row.pk, started.lease_token)


LIVES: dict[str, tuple[Callable[[], object], Status]] = {
    "made": (lambda: make(lambda pk, token: queue.complete(pk, lease_token=token)), Status.SUCCEEDED),
    "failed": (lambda: make(lambda pk, token: queue.fail(pk, lease_token=token, error="boom")), Status.QUEUED),
    "given back": (lambda: make(lambda pk, token: queue.release(pk, lease_token=token)), Status.QUEUED),
    "polled": (lambda: queue.mark_processed(ReportQueue.objects.get().pk), Status.SUCCEEDED),
    "cancelled": (lambda: queue.cancel(ReportQueue.objects.get().pk), Status.CANCELLED),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("life", LIVES)
def test_a_row_does_not_wait_for_whoever_edits_its_schedule(life: str):
    lead, status = LIVES[life]
    schedule = ReportSchedule(report_id=1, modifier_id=2, cron="0 0 1 1 *")
    schedule.save()
    build_row(schedule=schedule)

    def bounded() -> object:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        return lead()

    with transaction.atomic():
        schedule.priority = 5
        schedule.save()
        (answer,) = at_once([bounded])
    assert not isinstance(answer, Exception), answer
    assert ReportQueue.objects.get().status == status
