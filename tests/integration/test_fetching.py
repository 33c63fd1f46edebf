"""Rows that are made from a cursor equal the rows that Django makes."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.transaction import TransactionManagementError

from reportqueue.models import ReportQueue
from reportqueue.queue.fetching import fetch_locked
from reportqueue.states import Status
from tests.conftest import build_row, build_schedule, minutes_ago

pytestmark = pytest.mark.django_db


def fields(row: ReportQueue) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in ReportQueue._meta.concrete_fields}


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.SUCCEEDED])
@pytest.mark.parametrize(
    "stored",
    [{}, {"params": {"ids": [1, 2.5, None], "name": "é\n\\"}, "result": {"artifacts": {}}}, {"idempotency_key": "k"}],
)
def test_every_field_is_as_django_reads_it(status: Status, stored: dict[str, Any]):
    pk = build_row(status=status, schedule=build_schedule(), **stored).pk
    (row,) = fetch_locked(ReportQueue.objects.filter(pk=pk).select_for_update(of=("self",)))
    django = ReportQueue.objects.get(pk=pk)
    assert fields(row) == fields(django)
    assert [type(value) for value in fields(row).values()] == [type(value) for value in fields(django).values()]
    assert abs(row.now - minutes_ago(0)).total_seconds() < 60


def test_it_is_a_row_like_any_other():
    schedule = build_schedule()
    pk = build_row(schedule=schedule).pk
    (row,) = fetch_locked(ReportQueue.objects.filter(pk=pk).select_for_update())
    assert (row, row.schedule, row.queue_id, row.get_status_display()) == (
        ReportQueue.objects.get(pk=pk),
        schedule,
        pk,
        "Queued",
    )
    ReportQueue.objects.update(priority=7)
    row.refresh_from_db()
    assert row.priority == 7
    row.error = "written"
    row.save(update_fields=["error"])
    assert ReportQueue.objects.get().error == "written"


def test_no_row_is_none():
    assert fetch_locked(ReportQueue.objects.filter(pk__in=[])) == []
    assert fetch_locked(ReportQueue.objects.filter(pk=1).select_for_update()) == []


@pytest.mark.django_db(transaction=True)
def test_a_lock_outside_a_transaction_is_refused():
    with pytest.raises(TransactionManagementError):
        fetch_locked(ReportQueue.objects.select_for_update())


def test_the_columns_have_the_names_of_the_attributes():
    assert [
        (field.column, field.attname) for field in ReportQueue._meta.concrete_fields if field.column != field.attname
    ] == []
