"""Bulk actions in the admin: links of the list, the page before the start, the page with the progress, who may."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue import bulk, failures
from reportqueue.admin.bulk import as_filters
from reportqueue.models import BulkAction, Report, ReportQueue
from reportqueue.models.bulk import BulkStatus
from reportqueue.states import Status
from tests.conftest import build_row, build_schedule, minutes_ago
from tests.integration.test_admin_content_policy import INLINE
from tests.integration.test_admin_permissions import QUEUE, messages_of, staff, text_of
from tests.integration.test_bulk import FAILED, finish

pytestmark = pytest.mark.django_db
BULK = f"{QUEUE}bulk/"
ACTIONS = "/admin/reportqueue/bulkaction/"
START = f"{BULK}?verb=requeue&status=failed"
UNDO_OF_A_REQUEUE = (
    "Undo cancels the rows that this action has queued and that have not been handed out, started or changed since. "
    "They do not get their old errors and results back."
)
UNDO_OF_A_CANCEL = (
    "Undo queues the rows again that this action has cancelled and that have not changed since; those that were due "
    "later wait until then. What was running when it was asked to end stays as it is."
)
BOTH = ("view_reportqueue", "requeue_reportqueue", "cancel_reportqueue")


@pytest.fixture
def operator() -> Client:
    """The browser of somebody who may do both."""
    return staff(*BOTH)


def links_of(client: Client, query: str) -> dict[str, str]:
    """The links to bulk actions of a list, by their text."""
    page = client.get(f"{QUEUE}?{query}", follow=True).content.decode()
    found = re.findall(rf'href="({BULK}\?[^"]+)">([^<]+)<', page)
    return {text: address.replace("&amp;", "&") for address, text in found}


def test_what_matches_is_shown_and_nothing_is_done_before_the_start(operator: Client):
    Report(report_id=7, name="Weather").save()
    rows = [build_row(status=Status.FAILED, report_id=7) for _ in range(12)]
    page = text_of(operator.get(f"{BULK}?verb=requeue&report_id=7"))
    assert "Weather (7)" in page
    assert "<strong>12</strong>" in page
    assert len(re.findall(rf'<a href="{QUEUE}\d+/change/', page)) == 10, "ten of them"
    assert not BulkAction.objects.exists()
    done = operator.post(f"{BULK}?verb=requeue&report_id=7", {"reason": "<mended>"}, follow=True)
    action = BulkAction.objects.get()
    assert done.redirect_chain == [(f"{BULK}{action.pk}/", 302)]
    assert (action.verb, action.filters, action.reason) == ("requeue", {"report_id": 7}, "<mended>")
    assert action.requested_by.startswith("user-")
    assert "&lt;mended&gt;" in text_of(done)
    assert finish(action).done == len(rows)


def test_the_page_of_an_action_says_how_far_it_is(operator: Client):
    rows = [build_row(status=Status.FAILED), build_row(status=Status.FAILED)]
    action = bulk.start("requeue", FAILED)
    address = f"{BULK}{action.pk}/"
    page = text_of(operator.get(address))
    assert "0 of 2 done" in page
    assert '<div id="rq-done" data-live>' in page
    assert '<progress id="rq-progress" max="2" value="0">' in page
    assert "waits for the scheduler" not in page
    BulkAction.objects.update(created_at=minutes_ago(1))
    assert "It waits for the scheduler (manage.py enqueue_due_reports --loop)." in text_of(operator.get(address))
    BulkAction.objects.update(refused={"A <b>reason.": 3})
    finish(action)
    page = text_of(operator.get(address))
    assert "2 of 2 done" in page
    assert "data-live" not in page
    assert "<li>A &lt;b&gt;reason: 3</li>" in page
    assert all(f'<a href="{QUEUE}{row.pk}/change/">#{row.pk}</a>' in page for row in rows)
    row = text_of(operator.get(f"{QUEUE}{rows[0].pk}/change/"))
    assert f'<a href="{address}">#{action.pk}</a> Requeue' in row


def test_the_progress_of_rows_that_were_not_counted_is_that_of_their_numbers(operator: Client):
    build_row(status=Status.FAILED)
    action = bulk.start("requeue", FAILED)
    for total, more, said in ((None, False, "0 of an unknown number done"), (10_000, True, "0 of 10,000 or more done")):
        BulkAction.objects.update(total=total, more=more)
        page = text_of(operator.get(f"{BULK}{action.pk}/"))
        assert said in page
        assert '<progress id="rq-progress" max="1" value="0">' in page


def test_an_action_is_paused_resumed_stopped_and_undone_by_buttons(operator: Client):
    row = build_row(status=Status.FAILED)
    build_row(status=Status.FAILED)
    action = bulk.start("requeue", FAILED)
    address = f"{BULK}{action.pk}/"

    def buttons(page: str) -> list[str]:
        return re.findall(rf'formaction="{address}(\w+)/"', page)

    def order(name: str) -> str:
        return text_of(operator.post(f"{address}{name}/", follow=True))

    assert buttons(text_of(operator.get(address))) == ["pause", "stop"]
    assert buttons(order("pause")) == ["resume", "stop"]
    assert buttons(order("resume")) == ["pause", "stop"]
    assert buttons(order("stop")) == []
    action = bulk.start("requeue", FAILED)
    address = f"{BULK}{action.pk}/"
    finish(action)
    assert buttons(text_of(operator.get(address))) == ["undo"]
    assert UNDO_OF_A_REQUEUE in text_of(operator.get(address))
    assert UNDO_OF_A_REQUEUE not in text_of(staff(*BOTH[:2]).get(address)), "no button, no word about it"
    undone = operator.post(f"{address}undo/", follow=True)
    undo = BulkAction.objects.get(undo_of=action.pk)
    assert undone.redirect_chain == [(f"{BULK}{undo.pk}/", 302)]
    assert f"undoes #{action.pk}" in text_of(undone)
    assert buttons(text_of(operator.get(address))) == []
    assert f"Undone by #{undo.pk}" in text_of(operator.get(address))
    assert UNDO_OF_A_REQUEUE not in text_of(operator.get(address))
    assert finish(undo).done == 2
    row.refresh_from_db()
    assert row.status == Status.CANCELLED
    assert UNDO_OF_A_CANCEL in text_of(operator.get(f"{BULK}{undo.pk}/")), "an undo is undone by the other verb"
    (said,) = messages_of(operator.post(f"{address}pause/", follow=True))
    assert said == "A bulk action that has finished cannot be paused."


def test_a_failure_group_has_its_title_and_its_fingerprint(operator: Client):
    failure = failures.read("ValueError: <no>")
    row = build_row(status=Status.FAILED, error=failure.title, fingerprint=failure.fingerprint)
    wanted = {"failure": failure.fingerprint}
    said = f"ValueError: &lt;no&gt; ({failure.fingerprint})"
    assert f"<dt>failure</dt><dd>{said}</dd>" in text_of(operator.get(f"{BULK}?verb=requeue&failure={row.fingerprint}"))
    action = bulk.start("requeue", wanted)
    assert f"<dt>failure</dt><dd>{said}</dd>" in text_of(operator.get(f"{BULK}{action.pk}/"))
    assert f"failure: {said}" in text_of(operator.get(ACTIONS))
    with CaptureQueriesContext(connection) as one:
        operator.get(ACTIONS)
    for _ in range(20):
        bulk.start("requeue", wanted)
    with CaptureQueriesContext(connection) as many:
        operator.get(ACTIONS)
    assert len(many) == len(one)
    finish(action)
    page = text_of(operator.get(f"{BULK}{action.pk}/"))
    assert f"<dt>failure</dt><dd>{failure.fingerprint}</dd>" in page, "no row of it is left"


def test_the_list_has_the_newest_first_and_leads_to_their_pages(operator: Client):
    first, second = bulk.start("requeue", FAILED, by="ana"), bulk.start("cancel", {"report_id": 3})
    page = text_of(operator.get(ACTIONS))
    assert page.index(f'<a href="{BULK}{second.pk}/">') < page.index(f'<a href="{BULK}{first.pk}/">')
    assert "status: Failed" in page
    assert 'name="action"' not in page
    assert f"{ACTIONS}add/" not in page
    assert operator.get(f"{ACTIONS}{first.pk}/change/")["Location"] == f"{BULK}{first.pk}/"
    assert f"{BULK}{first.pk}/" in text_of(operator.get(f"{ACTIONS}?q=ana"))
    assert f"{BULK}{second.pk}/" not in text_of(operator.get(f"{ACTIONS}?q=ana"))


def test_nobody_adds_changes_or_deletes_actions_by_hand(admin_client: Client):
    action = bulk.start("requeue", FAILED)
    for page in ("add/", f"{action.pk}/change/", f"{action.pk}/delete/"):
        assert admin_client.post(f"{ACTIONS}{page}", {"status": "finished", "post": "yes"}).status_code == 403, page
    action.refresh_from_db()
    assert action.status == BulkStatus.WAITING


def test_a_filtered_list_leads_to_the_same_rows(operator: Client):
    schedule = build_schedule()
    alike = "0123456789abcdef"
    row = build_row(status=Status.FAILED, schedule=schedule, source="api", route="finance", fingerprint=alike)
    build_row(status=Status.FAILED)
    day = f"{row.trigger_time:%Y-%m-%d}"
    for query in (
        "status=failed&source=api",
        f"schedule={schedule.pk}&processed=yes",
        "status=failed&route=finance",
        f"failure={alike}",
        f"source=api&due_from={day}&due_until={day}&report_id=&modifier_id=2&p=1&o=1",
    ):
        links = links_of(operator, query)
        page = text_of(operator.get(links["Requeue all that match…"]))
        assert "<strong>1</strong>" in page, query
        assert f"#{row.pk}</a>" in page
    assert list(links_of(operator, "status=failed")) == ["Requeue all that match…"]
    assert list(links_of(operator, "report_id=1")) == ["Requeue all that match…", "Cancel all that match…"]


@pytest.mark.parametrize(
    "query",
    ["", "p=2", "o=1", "q=weather", "status=failed&q=7", "status=lost", "status=failed&due_from=soon", "report_id=x",
     "report_id=1e3", "status=skipped", "report_id=&modifier_id="],
)  # fmt: skip
def test_a_list_that_no_filter_describes_has_no_link(operator: Client, query: str):
    build_row(status=Status.FAILED)
    assert links_of(operator, query) == {}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("now=failed&o=5", "now"),
        ("status=failed&q=7", "search"),
        ("status=failed&q=7&now=late", "search, now"),
    ],
)
def test_a_list_says_what_keeps_all_that_match_from_being_requeued(operator: Client, query: str, named: str):
    build_row(status=Status.FAILED)
    said = f"Remove this first: {named}."
    page = text_of(operator.get(f"{QUEUE}?{query}"))
    assert f"filters by status, report, modifier, due day, source, route, schedule and failure. {said}" in page
    assert said not in text_of(operator.get(f"{QUEUE}?status=failed"))
    assert said not in text_of(staff("view_reportqueue").get(f"{QUEUE}?{query}"))


def test_a_parameter_that_is_not_known_has_no_filter():
    assert as_filters(QueryDict("status=failed&late=yes")) is None
    assert as_filters(QueryDict("status=failed&q=")) == {"status": "failed"}
    assert as_filters(QueryDict("status=failed&all=&p=3")) == {"status": "failed"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("verb=requeue&state=failed", "state: Unknown filter"),
        ("verb=requeue&status=lost", "status: "),
        ("verb=requeue&status=queued", "status: No report with this can be requeued."),
        ("verb=requeue&report_id=x", "report_id: "),
        ("verb=requeue&report_id=1&report_id=2", "report_id: Must have one value."),
        ("verb=requeue", "Choose rows by a filter"),
    ],
)
def test_a_wrong_filter_is_named_and_nothing_can_be_started(operator: Client, query: str, said: str):
    build_row(status=Status.FAILED)
    response = operator.get(f"{BULK}?{query}")
    assert response.status_code == 400
    assert said in response.content.decode()
    assert 'value="Start"' not in response.content.decode()
    assert operator.post(f"{BULK}?{query}").status_code == 400
    assert not BulkAction.objects.exists()


def test_all_rows_have_to_be_asked_for(operator: Client):
    build_row(status=Status.FAILED)
    assert "none: all reports" in text_of(operator.get(f"{BULK}?verb=requeue&all=true"))
    assert operator.post(f"{BULK}?verb=requeue&all=true").status_code == 302
    assert BulkAction.objects.get().filters == {}


def test_without_a_verb_the_list_is_shown(operator: Client):
    for query in ("", "?verb=complete"):
        response = operator.get(f"{BULK}{query}", follow=True)
        assert messages_of(response) == ["Choose what to do from the queue's list."]


@pytest.mark.parametrize("permissions", [(), ("view_reportqueue",), BOTH[1:], ("view_reportqueue", BOTH[2])])
def test_without_the_permission_nothing_is_shown_or_done(permissions: tuple[str, ...]):
    row = build_row(status=Status.FAILED)
    action = bulk.start("requeue", FAILED)
    client = staff(*permissions)
    assert client.get(START).status_code == client.post(START).status_code == 403
    for name in ("pause", "resume", "stop"):
        assert client.post(f"{BULK}{action.pk}/{name}/").status_code == 403
    sees = "view_reportqueue" in permissions
    assert client.get(f"{BULK}{action.pk}/").status_code == (200 if sees else 403)
    assert client.get(ACTIONS).status_code == (200 if sees else 403)
    if sees:
        assert links_of(client, "status=failed") == {}
        assert "formaction" not in text_of(client.get(f"{BULK}{action.pk}/"))
    action.refresh_from_db()
    assert (action.status, BulkAction.objects.count()) == (BulkStatus.WAITING, 1)
    finish(action)
    if BOTH[2] not in permissions or not sees:
        assert client.post(f"{BULK}{action.pk}/undo/").status_code == 403, "an undo of a requeue cancels"
        assert BulkAction.objects.count() == 1
    row.refresh_from_db()
    assert row.status == Status.QUEUED


def test_to_requeue_is_not_to_undo_a_requeue():
    build_row(status=Status.FAILED)
    action = finish(bulk.start("requeue", FAILED))
    assert staff(*BOTH[:2]).post(f"{BULK}{action.pk}/undo/").status_code == 403
    assert staff("view_reportqueue", BOTH[2]).post(f"{BULK}{action.pk}/undo/").status_code == 302


def test_strangers_are_sent_to_the_login():
    action = bulk.start("requeue", FAILED)
    for address in (START, f"{BULK}{action.pk}/", f"{BULK}{action.pk}/stop/", ACTIONS):
        for method in (Client().get, Client().post):
            assert method(address)["Location"].startswith("/admin/login/")
    action.refresh_from_db()
    assert action.status == BulkStatus.WAITING


def test_nothing_is_done_by_following_a_link_or_without_the_form_s_token(operator: Client):
    action = bulk.start("requeue", FAILED)
    for name in ("pause", "resume", "stop", "undo"):
        assert operator.get(f"{BULK}{action.pk}/{name}/").status_code == 405
    assert operator.put(START).status_code == operator.post(f"{BULK}{action.pk}/").status_code == 405
    operator.handler.enforce_csrf_checks = True
    assert operator.post(START).status_code == 403
    assert operator.post(f"{BULK}{action.pk}/stop/").status_code == 403
    action.refresh_from_db()
    assert (action.status, BulkAction.objects.count()) == (BulkStatus.WAITING, 1)


def test_an_action_that_is_not_there_is_said(operator: Client):
    for response in (operator.get(f"{BULK}7/", follow=True), operator.post(f"{BULK}7/stop/", follow=True)):
        assert messages_of(response)[0] == "There is no bulk action 7."


def test_pages_hold_no_style_and_no_script_and_their_inputs_have_labels(operator: Client):
    build_row(status=Status.FAILED)
    action = bulk.start("requeue", FAILED, reason="mended")
    pages: dict[str, Any] = {address: text_of(operator.get(address)) for address in (START, f"{BULK}{action.pk}/")}
    for address, page in (*pages.items(), (ACTIONS, text_of(operator.get(ACTIONS)))):
        assert INLINE.findall(page) == [], address
        assert 'href="/static/reportqueue/admin.css"' in page
    assert '<label for="rq-reason">' in pages[START]
    for page in pages.values():
        (crumbs,) = re.findall(r'class="breadcrumbs">(.*?)</(?:ol|div)>', page, re.DOTALL)
        assert f'<a href="{QUEUE}">' in crumbs
    assert ReportQueue.objects.get().status == Status.FAILED
