"""A row whose data were erased is not run again, in whatever way somebody asks for that; it says why."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client

from reportqueue import bulk, erasure, queue
from reportqueue.clock import database_now
from reportqueue.errors import RowErased
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Status
from tests.conftest import ClientFactory, build_row
from tests.integration.test_admin_permissions import messages_of, text_of

pytestmark = pytest.mark.django_db
QUEUE = "/admin/reportqueue/reportqueue/"
WHY = "The data of the report were erased"


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def erase(modifier_id: int = 17) -> erasure.Erased:
    return erasure.erase_modifier(modifier_id, not_deleted=lambda *_: None)


def build_erased(**fields: Any) -> ReportQueue:
    """A row whose data were erased."""
    row = build_row(**({"status": Status.FAILED, "modifier_id": 17, "params": {"order": 4711}} | fields))
    erase()
    row.refresh_from_db()
    return row


@pytest.mark.parametrize("params", [{"order": 4711}, {}])
@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.SKIPPED])
def test_the_erasure_marks_each_final_row_also_without_parameters(status: str, params: dict[str, Any]):
    other = build_row(status=status, modifier_id=18)
    row = build_erased(status=status, params=params)
    assert row.erased_at is not None
    assert abs(row.erased_at - database_now()) < timedelta(minutes=1)
    before = row.erased_at
    assert erase().counts.total() == 0
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.erased_at, other.erased_at) == (before, None)


def test_a_row_that_was_erased_before_there_was_a_mark_gets_it_by_the_next_erasure():
    row = build_erased()
    ReportQueue.objects.update(erased_at=None)
    assert erase().counts["rows"] == 1
    row.refresh_from_db()
    assert row.erased_at is not None


def test_it_is_not_requeued():
    row = build_erased()
    with pytest.raises(RowErased, match=WHY):
        queue.requeue(row.pk)
    found = queue.requeue_together([row.pk, (other := build_row(status=Status.FAILED)).pk])
    assert isinstance(found[row.pk], RowErased)
    assert found[other.pk] == other
    row.refresh_from_db()
    assert row.status == Status.FAILED


def test_it_is_not_executed_again():
    row = build_erased(run_id="first")
    with pytest.raises(RowErased, match=WHY):
        queue.start(row.pk, generation=1, run_id="again", parent_run_id="first")
    assert ReportAttempt.objects.filter(queue=row).count() == 1


def test_the_database_keeps_it_final():
    row = build_erased()
    with pytest.raises(IntegrityError, match="reportqueue_erased_is_final"), transaction.atomic():
        ReportQueue.objects.filter(pk=row.pk).update(status=Status.QUEUED, finished_at=None)


def test_the_api_shows_when_and_refuses_with_a_problem_of_its_own(client_with: ClientFactory):
    row, other = build_erased(run_id="first"), build_row(status=Status.FAILED)
    client = client_with("view_reportqueue", "requeue_reportqueue", "consume_reportqueue")
    shown = {one.pk: client.get(f"/api/report-queue/{one.pk}/").json()["erased_at"] for one in (row, other)}
    assert row.erased_at is not None
    assert shown == {row.pk: row.erased_at.isoformat().replace("+00:00", "Z"), other.pk: None}
    run = {"generation": 1, "run_id": "again", "parent_run_id": "first"}
    for answer in (
        client.post(f"/api/report-queue/{row.pk}/requeue/"),
        client.post(f"/api/report-queue/{row.pk}/start/", run, format="json"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (409, "erased")
        assert WHY in answer.json()["detail"]
    many = {"rows": [{"queue_id": row.pk, "generation": 1}], "run_id": "again", "parent_run_id": "first"}
    (of_row,) = client.post("/api/report-queue/start/", many, format="json").json()["rows"]
    assert (of_row["code"], of_row["answer"]["type"]) == (409, "erased")


def test_a_bulk_action_refuses_it_and_counts_the_reason():
    row, other = build_erased(), build_row(status=Status.FAILED)
    action = bulk.start("requeue", {"status": ["failed"]})
    while bulk.step(1).left:
        pass
    action.refresh_from_db()
    assert (action.done, list(action.refused.values())) == (1, [1])
    assert WHY in next(iter(action.refused))
    assert {one.pk: one.status for one in ReportQueue.objects.all()} == {row.pk: "failed", other.pk: "queued"}


def test_the_undo_of_a_cancel_refuses_it():
    row = build_row(status=Status.QUEUED, modifier_id=17)
    action = bulk.start("cancel", {"modifier_id": 17})
    while bulk.step(1).left:
        pass
    erase()
    undo = bulk.undo(action.pk)
    while bulk.step(1).left:
        pass
    undo.refresh_from_db()
    row.refresh_from_db()
    assert (row.status, undo.done) == (Status.CANCELLED, 0)
    assert WHY in next(iter(undo.refused))


def command(*arguments: str) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command("report_queue", *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_the_command_refuses_it_and_its_dry_run_says_so():
    row, other = build_erased(), build_row(status=Status.FAILED)
    code, out, err = command("requeue", "--all", "--dry-run")
    assert code == 1
    assert f"would requeue 1 of 2 failed rows: #{other.pk}" in out
    assert f"1 would be refused (#{row.pk}): {WHY}" in err
    code, out, err = command("requeue", "--all")
    assert (code, "1 queued" in out) == (1, True)
    assert f"1 refused (#{row.pk}): {WHY}" in err
    assert "erased_at: 20" in command("show", str(row.pk))[1]


def test_the_page_of_the_row_says_so_and_has_no_button_and_no_link_to_copy_it(operator: Client):
    row, other = build_erased(), build_row(status=Status.FAILED, modifier_id=18)
    for one, erased in ((row, True), (other, False)):
        page = operator.get(f"{QUEUE}{one.pk}/change/")
        assert ("its parameters are gone" in text_of(page)) == erased
        assert ("copy_of=" in page.content.decode()) != erased
        assert (f"/{one.pk}/requeue/" in page.content.decode()) != erased


def test_whoever_asks_for_it_all_the_same_is_told_why(operator: Client):
    row = build_erased()
    page = operator.post(f"{QUEUE}{row.pk}/requeue/", follow=True)
    assert WHY in str(messages_of(page))
    page = operator.post(QUEUE, {"action": "requeue_selected", "_selected_action": [str(row.pk)]}, follow=True)
    assert WHY in str(messages_of(page))
    for method in (operator.get, operator.post):
        page = method(f"{QUEUE}enqueue/?copy_of={row.pk}", follow=True)
        assert "there is nothing to copy" in str(messages_of(page))
        assert page.redirect_chain[-1][0] == f"{QUEUE}{row.pk}/change/"
    row.refresh_from_db()
    assert (row.status, ReportQueue.objects.count()) == (Status.FAILED, 1)
