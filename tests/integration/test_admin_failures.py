"""The admin's page of failures: what it shows, who may mute, and what forged requests get."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from reportqueue import queue
from reportqueue.admin import failures as page
from reportqueue.models import MutedFailure, Report
from reportqueue.queue import failure_groups
from reportqueue.states import Status
from tests.conftest import build_row
from tests.integration.test_admin_permissions import QUEUE, messages_of, staff, text_of
from tests.integration.test_failure_groups import NO_ROWS, failed

pytestmark = pytest.mark.django_db
FAILURES = f"{QUEUE}failures/"
EMPTY = "No report has failed in this period."


@pytest.fixture
def viewer() -> Client:
    return staff("view_reportqueue")


@pytest.fixture
def operator() -> Client:
    return staff("view_reportqueue", "requeue_reportqueue", "mute_reportqueue")


def mute_address(fingerprint: str, verb: str = "mute") -> str:
    return f"{FAILURES}{fingerprint}/{verb}/"


def shown(response: Any) -> list[str]:
    return [line["group"].title for line in response.context["groups"]]


def test_a_group_is_shown_with_everything_that_a_person_asks_for(viewer: Client):
    Report(report_id=7, name="Weather").save()
    failed(NO_ROWS.format(1), 30, report_id=7)
    newest = failed(NO_ROWS.format(2), 10, report_id=8)
    text = text_of(viewer.get(FAILURES))
    assert "2 failed reports, 1 failure." in text
    for part in (
        "ValueError: order &lt;n&gt; is empty",
        "weather.py, in make",
        "Weather (7)",
        "30 min ago",
        "10 min ago",
    ):
        assert part in text, part
    assert f"{newest.finished_at:%Y-%m-%d %H:%M:%S}" in text
    assert f'href="{QUEUE}{newest.pk}/change/"' in text
    assert f'href="{QUEUE}?failure={newest.fingerprint}">2</a>' in text
    assert "Mute" not in text
    assert EMPTY not in text


def test_the_queues_list_links_to_the_page(viewer: Client):
    assert f'href="{FAILURES}"' in text_of(viewer.get(QUEUE))


def test_a_period_without_failures_says_so(viewer: Client):
    failed(NO_ROWS.format(1), 25 * 60)
    assert EMPTY in text_of(viewer.get(FAILURES))
    assert EMPTY in text_of(viewer.get(FAILURES, {"period": "1h"}))
    assert shown(viewer.get(FAILURES, {"period": "7d"})) == shown(viewer.get(FAILURES, {"period": "all"})) != []


@pytest.mark.parametrize("period", ["2h", "", "'", "\x00", "\u2028", "all\n", "7D" * 5_000])
def test_a_period_that_does_not_exist_is_said(viewer: Client, period: str):
    response = viewer.get(FAILURES, {"period": period})
    assert response.context["period"] == "24h"
    assert any("There is no such period" in said for said in messages_of(response))


def test_every_period_has_a_label(viewer: Client):
    assert set(page.PERIOD_LABELS) == set(failure_groups.PERIODS)
    assert 'value="24h" selected' in text_of(viewer.get(FAILURES))


def test_an_error_cannot_write_into_the_page(operator: Client):
    failed("ValueError: <script>alert(1)</script> <img src=x onerror=alert(2)>")
    failed("")
    text = operator.get(FAILURES).content.decode()
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "No text" in text


def test_only_who_may_see_the_queue_sees_the_page():
    failed(NO_ROWS.format(1))
    for client in (staff(), staff("mute_reportqueue"), staff("view_report")):
        assert client.get(FAILURES).status_code == 403
    assert Client().get(FAILURES).status_code == 302


def test_only_who_may_mute_mutes_and_who_may_not_sees_no_button(viewer: Client, operator: Client):
    row = failed(NO_ROWS.format(1))
    address = mute_address(row.fingerprint)
    for client in (viewer, staff(), staff("mute_reportqueue"), staff("view_reportqueue", "requeue_reportqueue")):
        for verb in ("mute", "unmute"):
            assert client.post(mute_address(row.fingerprint, verb)).status_code == 403
    assert not MutedFailure.objects.exists()
    assert address not in text_of(viewer.get(FAILURES))
    assert re.search(
        rf'<form method="post" action="{address}".*?<button type="submit"', text_of(operator.get(FAILURES)), re.S
    )


def test_a_failure_is_muted_with_a_note_and_unmuted(operator: Client):
    row, other = failed(NO_ROWS.format(1)), failed("KeyError: 1")
    response = operator.post(mute_address(row.fingerprint), {"reason": " known\x00 ", "period": "7d"}, follow=True)
    assert response.redirect_chain == [(f"{FAILURES}?period=7d", 302)]
    muted = MutedFailure.objects.get()
    assert (muted.pk, muted.note, muted.title) == (row.fingerprint, "known", "ValueError: order <n> is empty")
    assert muted.muted_by.startswith("user-")
    assert shown(response) == ["KeyError: <n>"]
    text = text_of(response)
    assert "1 failed reports, 1 failure." in text
    assert "1 muted failure" in text
    assert f"muted by {muted.muted_by}" in text
    assert text.index("<details") > text.index(other.fingerprint)
    assert "<details open" not in text
    response = operator.post(mute_address(row.fingerprint, "unmute"), follow=True)
    assert len(shown(response)) == 2
    assert not MutedFailure.objects.exists()
    assert [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")] == [
        "Muted in the admin",
        "Unmuted in the admin",
    ]


def test_what_is_muted_already_or_not_muted_is_said(operator: Client):
    row = failed(NO_ROWS.format(1))
    queue.mute(row.fingerprint, by="ada", note="known")
    response = operator.post(mute_address(row.fingerprint), {"reason": "mine"}, follow=True)
    assert any("It was muted already" in said and "by ada: known" in said for said in messages_of(response))
    operator.post(mute_address(row.fingerprint, "unmute"), follow=True)
    response = operator.post(mute_address(row.fingerprint, "unmute"), follow=True)
    assert messages_of(response) == ["It was not muted."]
    assert LogEntry.objects.count() == 1


def test_a_failure_that_nobody_has_is_not_muted(operator: Client):
    failed(NO_ROWS.format(1))
    response = operator.post(mute_address("0" * 16), follow=True)
    assert messages_of(response) == ["No report has failed so. Nothing was changed."]
    for text in ("x" * 16, "0" * 15, "ABCDEF0123456789", "%00" * 16):
        assert operator.post(mute_address(text)).status_code == 404, text
    assert not MutedFailure.objects.exists()
    assert not LogEntry.objects.exists()


def test_it_is_not_muted_by_following_a_link_or_without_the_forms_token(operator: Client):
    row = failed(NO_ROWS.format(1))
    assert operator.get(mute_address(row.fingerprint)).status_code == 405
    assert operator.post(FAILURES).status_code == 405
    operator.handler.enforce_csrf_checks = True
    assert operator.post(mute_address(row.fingerprint)).status_code == 403
    assert not MutedFailure.objects.exists()


@pytest.mark.parametrize("period", ["https://evil.example", "2h", "\r\nX: y"])
def test_a_forged_period_leads_nowhere_else(operator: Client, period: str):
    row = failed(NO_ROWS.format(1))
    assert operator.post(mute_address(row.fingerprint), {"period": period})["Location"] == FAILURES


def test_all_rows_of_a_group_are_requeued_on_a_page_of_the_queue(operator: Client, viewer: Client):
    row = failed(NO_ROWS.format(1))
    address = f"{QUEUE}bulk/?verb=requeue&failure={row.fingerprint}&status=failed"
    assert f'href="{address}"' in text_of(operator.get(FAILURES))
    assert "Requeue all" not in text_of(viewer.get(FAILURES))


def test_a_failed_row_links_to_the_others_that_failed_like_it(viewer: Client, monkeypatch: pytest.MonkeyPatch):
    row = failed(NO_ROWS.format(1))
    own, link = f"{QUEUE}{row.pk}/change/", f'href="{QUEUE}?failure={row.fingerprint}">'
    assert link not in text_of(viewer.get(own))
    failed(NO_ROWS.format(2))
    assert f"{link}1 other failed like this</a>" in text_of(viewer.get(own))
    failed(NO_ROWS.format(3))
    assert f"{link}2 others failed like this</a>" in text_of(viewer.get(own))
    monkeypatch.setattr(failure_groups, "COUNTED", 2)
    assert f"{link}2 or more others failed like this</a>" in text_of(viewer.get(own))
    old = build_row(status=Status.FAILED, error="before groups existed")
    for other in (old, build_row()):
        assert "failed like this" not in text_of(viewer.get(f"{QUEUE}{other.pk}/change/"))


def test_the_table_has_headers(operator: Client):
    queue.mute(failed(NO_ROWS.format(1)).fingerprint)
    failed("KeyError: 1")
    text = "".join(re.findall(r'<table class="rq-table.*?</table>', text_of(operator.get(FAILURES)), re.DOTALL))
    assert text.count('<th scope="col">') == 2 * 6
    assert text.count('<th scope="row"') == 2
    assert "<th></th>" not in text
