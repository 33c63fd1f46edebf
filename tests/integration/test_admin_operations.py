"""Requeue and cancel in the admin: of one row, of many, of too many; what is said about them and what is logged."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue.admin import actions, queue_actions
from reportqueue.models import ReportQueue
from reportqueue.states import Source, Status
from tests.conftest import RowFactory, minutes_ago
from tests.integration.test_admin_permissions import QUEUE, act, messages_of, staff, text_of


@pytest.fixture
def operator(db: None) -> Client:
    """The browser of somebody who may do both."""
    return staff("view_reportqueue", "requeue_reportqueue", "cancel_reportqueue")


def test_requeue_says_how_many_were_done_and_why_others_were_not(operator: Client, make_row: RowFactory):
    good = [make_row(status=Status.FAILED), make_row(status=Status.SUCCEEDED)]
    running, skipped = make_row(status=Status.RUNNING), make_row(status=Status.SKIPPED)
    response = act(operator, "requeue_selected", [*good, running, skipped])
    assert messages_of(response) == [
        "2 reports requeued.",
        (
            f"2 reports refused: A running report cannot be requeued. (#{running.pk}) "
            f"A skipped report cannot be requeued. (#{skipped.pk})"
        ),
    ]
    assert [ReportQueue.objects.get(pk=row.pk).status for row in good] == [Status.QUEUED, Status.QUEUED]
    running.refresh_from_db()
    assert running.status == Status.RUNNING


def test_cancel_ends_waiting_rows_and_asks_running_ones(operator: Client, make_row: RowFactory):
    waiting, running = make_row(), make_row(status=Status.RUNNING)
    done, cancelled = make_row(status=Status.SUCCEEDED), make_row(status=Status.CANCELLED)
    response = act(operator, "cancel_selected", [waiting, running, done, cancelled], reason="wrong customer")
    assert messages_of(response) == [
        "1 report cancelled.",
        "1 running report asked to cancel; it ends at its next heartbeat.",
        (
            f"2 reports refused: A cancelled report is cancelled already. (#{cancelled.pk}) "
            f"A succeeded report cannot be cancelled. (#{done.pk})"
        ),
    ]
    waiting.refresh_from_db()
    running.refresh_from_db()
    assert (waiting.status, running.status, running.cancel_requested) == (Status.CANCELLED, Status.RUNNING, True)
    assert waiting.error.startswith("Cancelled by user-")
    assert waiting.error.endswith("in the admin: wrong customer")
    assert "asked to cancel" in text_of(operator.get(QUEUE))


def test_what_was_done_is_in_the_row_s_history_and_what_was_refused_is_not(operator: Client, make_row: RowFactory):
    row, refused = make_row(status=Status.FAILED), make_row()
    act(operator, "requeue_selected", [row, refused], reason="bug is mended")
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.action_flag) == (str(row.pk), CHANGE)
    assert entry.change_message.endswith("in the admin: bug is mended")
    assert entry.user.username in entry.change_message
    assert "bug is mended" in text_of(operator.get(f"{QUEUE}{row.pk}/history/"))


def test_a_row_that_no_longer_matches_the_filter_is_still_reported(operator: Client, make_row: RowFactory):
    row = make_row()  # was failed when the list was shown; somebody else has requeued it meanwhile
    response = act(operator, "requeue_selected", [row], f"{QUEUE}?status=failed")
    assert messages_of(response) == [f"1 report refused: A queued report cannot be requeued. (#{row.pk})"]


def test_a_row_that_is_gone_is_reported(operator: Client, make_row: RowFactory):
    row, gone = make_row(status=Status.FAILED), make_row()
    ReportQueue.objects.filter(pk=gone.pk).delete()
    response = act(operator, "requeue_selected", [row, gone])
    assert messages_of(response) == [
        "1 report requeued.",
        f"1 report refused: There is no such report in the queue. (#{gone.pk})",
    ]


def test_many_rows_are_shown_by_status_before_anything_is_done(operator: Client, make_row: RowFactory):
    rows = [make_row() for _ in range(queue_actions.CONFIRM_ABOVE)]
    rows += [make_row(status=Status.RUNNING), make_row(status=Status.SUCCEEDED)]
    asked = act(operator, "cancel_selected", rows, f"{QUEUE}?source=code", reason="<wrong>")
    page = text_of(asked)
    assert f"{len(rows)} reports are selected." in page
    assert "will be refused" in page
    assert "will be asked" in page
    assert not ReportQueue.objects.filter(status=Status.CANCELLED).exists()
    form = {
        "action": "cancel_selected",
        "_selected_action": asked.context["first"],
        "confirmed": asked.context["pks"],
        "reason": asked.context["reason"],
    }
    response = operator.post(f"{QUEUE}?source=code", form, follow=True)
    assert f"{queue_actions.CONFIRM_ABOVE} reports cancelled." in messages_of(response)
    assert ReportQueue.objects.filter(status=Status.CANCELLED, error__endswith=": <wrong>").count() == 10
    assert response.redirect_chain == [(f"{QUEUE}?source=code", 302)]


def test_select_all_takes_the_whole_list_but_no_other_rows(operator: Client, make_row: RowFactory):
    failed = [make_row(status=Status.FAILED, report_id=7) for _ in range(3)]
    other = make_row(status=Status.FAILED, report_id=8)
    act(operator, "requeue_selected", failed[:1], f"{QUEUE}?report_id=7", select_across=1)
    assert ReportQueue.objects.filter(status=Status.QUEUED).count() == 3
    other.refresh_from_db()
    assert other.status == Status.FAILED


def many(count: int) -> list[ReportQueue]:
    """So many cancelled rows, made at once."""
    then = minutes_ago(1)
    row = {"report_id": 1, "modifier_id": 2, "trigger_time": then, "available_at": then, "source": Source.CODE}
    rows = [ReportQueue(**row, status=Status.CANCELLED, finished_at=then) for _ in range(count)]
    return ReportQueue.objects.bulk_create(rows)


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> int:
    """As many as an action takes, for once: fifteen."""
    monkeypatch.setattr(actions, "MAX_AT_ONCE", 15)
    return 15


def test_more_than_the_bound_is_refused_before_anything_is_done(operator: Client, bound: int):
    rows = many(bound + 1)
    listed = text_of(operator.get(QUEUE))
    assert "Select all 1" not in listed
    assert "At most 15 at once" in listed
    for more in ({"select_across": 1}, {"confirmed": ",".join(str(row.pk) for row in rows)}):
        (said,) = messages_of(act(operator, "requeue_selected", rows[:1], **more))
        assert said.startswith(
            "More than 15 reports are selected; at most 15 can be done at once. Nothing was changed."
        )
    assert not ReportQueue.objects.exclude(status=Status.CANCELLED).exists()


def test_as_many_as_the_bound_are_done_in_one_go(operator: Client, bound: int):
    rows = many(bound)
    assert "At most 15 at once" not in text_of(operator.get(QUEUE))
    asked = act(operator, "requeue_selected", rows[:1], select_across=1)
    form = {"action": "requeue_selected", "_selected_action": rows[0].pk, "confirmed": asked.context["pks"]}
    assert messages_of(operator.post(QUEUE, form, follow=True)) == ["15 reports requeued."]
    assert ReportQueue.objects.filter(status=Status.QUEUED).count() == LogEntry.objects.count() == bound


def test_all_rows_of_several_pages_can_be_selected(operator: Client):
    many(101)
    assert "Select all 101" in text_of(operator.get(QUEUE))


def test_each_row_costs_the_same_few_queries(operator: Client, make_row: RowFactory):
    def cost(count: int) -> int:
        rows = [make_row(status=Status.FAILED) for _ in range(count)]
        with CaptureQueriesContext(connection) as queries:
            operator.post(QUEUE, {"action": "requeue_selected", "index": 0, "_selected_action": [r.pk for r in rows]})
        return len(queries)

    cost(1)
    one, nine = cost(1), cost(9)
    # Three savepoints around two looks with a lock, the end that the row forgets, one update, one notice, the audit,
    # one log entry, and the name.
    assert nine - one == 8 * 14


def test_an_action_that_takes_too_long_stops_and_says_so(
    operator: Client, make_row: RowFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(actions, "BUDGET_SECONDS", -1.0)
    rows = [make_row(status=Status.FAILED) for _ in range(3)]
    assert messages_of(act(operator, "requeue_selected", rows)) == [
        "Stopped after 0 s: the other 2 were not tried; repeat the action for them.",
        "1 report requeued.",
    ]


def test_the_last_page_may_be_gone_after_an_action(operator: Client):
    rows = many(201)
    response = act(operator, "requeue_selected", rows[:1], f"{QUEUE}?status=cancelled&p=3")
    assert messages_of(response) == ["1 report requeued."]
    shown = response.context["cl"]
    assert (shown.result_count, shown.page_num, len(shown.result_list)) == (200, 2, 100)


@pytest.mark.parametrize("given", ["x", "-1", "9" * 30, "\x00", "1; DROP TABLE"])
def test_a_selection_of_no_ids_is_a_bad_request(operator: Client, make_row: RowFactory, given: str):
    row = make_row(status=Status.FAILED)
    form = {"action": "requeue_selected", "index": 0, "_selected_action": [row.pk, given]}
    assert operator.post(QUEUE, form).status_code == 400
    form = {"action": "requeue_selected", "_selected_action": row.pk, "confirmed": f"{given},{row.pk}"}
    assert messages_of(operator.post(QUEUE, form, follow=True)) == ["1 report requeued."]


def test_a_reason_that_cannot_be_stored_changes_nothing(operator: Client, make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    for reason in ("\x00", "x" * 1001):
        act(operator, "requeue_selected", [row], reason=reason)
    row.refresh_from_db()
    assert row.status == Status.FAILED


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        (Status.QUEUED, ["cancel"]),
        (Status.RUNNING, ["cancel"]),
        (Status.FAILED, ["requeue"]),
        (Status.CANCELLED, ["requeue"]),
        (Status.SKIPPED, []),
    ],
)
def test_a_row_s_page_offers_what_its_status_allows(
    operator: Client, make_row: RowFactory, status: Status, offered: list[str]
):
    row = make_row(status=status)
    page = text_of(operator.get(f"{QUEUE}{row.pk}/change/"))
    assert [verb for verb in ("requeue", "cancel") if f'formaction="{QUEUE}{row.pk}/{verb}/"' in page] == offered


def test_a_button_does_it_and_shows_the_row_again(operator: Client, make_row: RowFactory):
    row = make_row(status=Status.FAILED)
    address = f"{QUEUE}{row.pk}/change/"
    response = operator.post(f"{QUEUE}{row.pk}/requeue/", {"reason": "again, please"}, follow=True)
    assert response.redirect_chain == [(address, 302)]
    assert messages_of(response) == ["1 report requeued."]
    assert "again, please" in text_of(operator.get(address))
    response = operator.post(f"{QUEUE}{row.pk}/requeue/", follow=True)
    assert messages_of(response) == [f"1 report refused: A queued report cannot be requeued. (#{row.pk})"]


@pytest.mark.parametrize("pk", ["999999", "9" * 30])
def test_a_button_of_a_row_that_is_gone_says_so(operator: Client, pk: str):
    response = operator.post(f"{QUEUE}{pk}/requeue/", follow=True)
    assert response.status_code == 200
    assert any("no such report" in said for said in messages_of(response))
