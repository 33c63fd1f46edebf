"""The rows of one failure: in the admin's list, over the API, and from a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from reportqueue import queue
from reportqueue.models import Report, ReportQueue
from reportqueue.queue import failure_groups
from reportqueue.states import Status
from tests.conftest import ClientFactory, build_row
from tests.integration.test_admin_permissions import QUEUE, messages_of, staff, text_of
from tests.integration.test_api_endpoints import problem
from tests.integration.test_api_listing import listed, pages
from tests.integration.test_failure_groups import HISTORY, NO_ROWS, failed, history, read, scans, with_statistics
from tests.integration.test_report_queue_command import run

pytestmark = pytest.mark.django_db
FAILURES = "/api/report-queue/failures/"
INVALID = ["x", "0" * 15, "0" * 17, "ABCDEF0123456789", "0" * 15 + "\n", "\x00", "' OR 1=1"]
__all__ = ["history"]


@pytest.fixture
def viewer() -> Client:
    return staff("view_reportqueue")


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with("view_reportqueue")


@pytest.fixture
def alike() -> list[ReportQueue]:
    """Three rows that failed alike, beside others."""
    failed("KeyError: 1")
    build_row(status=Status.SUCCEEDED)
    build_row()
    return [failed(NO_ROWS.format(number), report_id=number) for number in range(3)]


def in_admin(client: Client, **query: Any) -> set[int]:
    response = client.get(QUEUE, query)
    assert response.status_code == 200, response
    return {row.pk for row in response.context["cl"].result_list}


def test_the_admins_list_has_the_rows_of_a_failure(viewer: Client, alike: list[ReportQueue]):
    fingerprint, pks = alike[0].fingerprint, {row.pk for row in alike}
    assert in_admin(viewer, failure=fingerprint) == pks
    assert in_admin(viewer, failure=fingerprint, status="failed") == pks
    assert in_admin(viewer, failure=fingerprint, processed="yes") == pks
    assert in_admin(viewer, failure=fingerprint, report_id=1) == {alike[1].pk}
    assert in_admin(viewer, failure=fingerprint, status="queued") == set()
    assert in_admin(viewer, failure=fingerprint, processed="no") == set()
    assert in_admin(viewer, failure="0" * 16) == set()
    page = text_of(viewer.get(QUEUE, {"failure": fingerprint}))
    assert f"Failure {fingerprint}" in page
    assert "By failure" not in text_of(viewer.get(QUEUE))


@pytest.mark.parametrize("value", INVALID)
def test_a_forged_failure_in_the_admin_shows_the_whole_list_and_says_so(
    viewer: Client, alike: list[ReportQueue], value: str
):
    response = viewer.get(QUEUE, {"failure": value}, follow=True)
    assert response.redirect_chain == [(f"{QUEUE}?e=1", 302)]
    assert any("There is no such filter or page." in said for said in messages_of(response))


def test_the_api_lists_the_rows_of_a_failure_and_tells_it_of_each_row(api: APIClient, alike: list[ReportQueue]):
    fingerprint, pks = alike[0].fingerprint, [row.pk for row in alike]
    assert sorted(listed(api, failure=fingerprint)) == pks
    assert sorted(listed(api, failure=fingerprint, processed="true", status="failed")) == pks
    assert listed(api, failure=fingerprint, report_id=1) == [alike[1].pk]
    assert listed(api, failure=fingerprint, processed="false") == []
    assert listed(api, failure=fingerprint, status="queued") == []
    assert listed(api, failure=fingerprint, source="webhook") == []
    assert listed(api, failure="0" * 16) == []
    assert len(listed(api, failure="")) == 1
    following = [
        item for page in pages(api, f"/api/report-queue/?failure={fingerprint}&limit=2") for item in page["queue"]
    ]
    assert sorted(item["queue_id"] for item in following) == pks
    assert {item["failure"] for item in following} == {fingerprint}
    assert {item["failure"] for item in api.get("/api/report-queue/").json()["queue"]} == {""}


@pytest.mark.parametrize("value", INVALID)
def test_a_forged_failure_over_the_api_is_400(api: APIClient, value: str):
    for query in ({"failure": value}, {"failure": value, "status": "failed"}):
        assert "failure" in problem(api.get("/api/report-queue/", query), "validation", 400)["errors"]


def test_the_api_answers_the_groups(api: APIClient, alike: list[ReportQueue], client_with: ClientFactory):
    Report(report_id=2, name="Weather").save()
    muted = queue.mute(failed("OSError: 5", 5).fingerprint, by="ada", note="known")
    answer = api.get(FAILURES).json()
    assert (answer["period"], answer["complete"], answer["counted_up_to"]) == ("24h", True, 10_000)
    (first, second, last) = answer["failures"]
    assert set(first) == {
        *("failure", "title", "frame", "count", "first_at", "last_at", "example", "reports", "more_reports", "muted"),
    }
    assert first == first | {
        "failure": alike[0].fingerprint,
        "title": "ValueError: order <n> is empty",
        "frame": "weather.py, in make",
        "count": 3,
        "example": alike[2].pk,
        "reports": [{"report_id": number, "report_name": "Weather" if number == 2 else ""} for number in range(3)],
        "more_reports": False,
        "muted": None,
    }
    assert first["last_at"].endswith("Z")
    assert (second["title"], second["muted"]) == ("KeyError: <n>", None)
    assert (last["title"], last["count"]) == ("OSError: <n>", 1)
    assert last["muted"] == {
        "muted_at": f"{muted.muted_at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "muted_by": "ada",
        "note": "known",
    }
    problem(client_with("add_reportqueue").get(FAILURES), "permission-denied", 403)
    problem(api.post(FAILURES), "method-not-allowed", 405)


@pytest.mark.parametrize("period", ["2h", "", "24H", "\x00", "all "])
def test_a_period_that_does_not_exist_is_400(api: APIClient, period: str):
    answer = problem(api.get(FAILURES, {"period": period}), "validation", 400)
    assert answer["errors"] == {"period": ["Must be one of 1h, 24h, 7d, all."]}
    problem(api.get(FAILURES, {"limit": 5}), "validation", 400)


def test_rows_of_a_failure_are_listed_and_requeued_from_a_terminal(alike: list[ReportQueue]):
    fingerprint = alike[0].fingerprint
    code, said, _ = run("list", "--failure", fingerprint)
    assert code == 0
    assert [f"#{row.pk} " in said for row in alike] == [True] * 3
    assert f"  fingerprint: {fingerprint}\n" in run("show", alike[0].pk)[1]
    assert run("requeue", "--failure", fingerprint)[1] == "requeue: 3 queued.\n"
    assert ReportQueue.objects.filter(status=Status.FAILED).count() == 1
    assert run("list", "--failure", fingerprint)[1] == "No rows match.\n"
    assert "no queued rows match" in run("cancel", "--failure", fingerprint)[1]


@pytest.mark.parametrize("value", INVALID)
def test_a_forged_failure_in_a_terminal_is_refused(value: str):
    assert run("list", "--failure", value)[0] != 0


@pytest.mark.usefixtures("history")
def test_a_page_of_the_rows_of_a_failure_is_read_by_the_index(
    api: APIClient, viewer: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("reportqueue.admin.changelists.BoundedPaginator.LIMIT", 50)
    monkeypatch.setattr(failure_groups, "COUNTED", 50)
    found = ReportQueue.objects.exclude(fingerprint="")
    often, rare = found.latest("trigger_time"), found.earliest("trigger_time")
    assert found.filter(fingerprint=often.fingerprint).count() > HISTORY / 10
    for statistics in with_statistics():
        for row in (often, rare):
            for client, address in (
                *(
                    (viewer, f"{QUEUE}?failure={row.fingerprint}{more}")
                    for more in ("", "&status=failed", "&status=queued")
                ),
                (viewer, f"{QUEUE}?failure={row.fingerprint}&processed=no"),
                (viewer, f"{QUEUE}{row.pk}/change/"),
                (api, f"/api/report-queue/?failure={row.fingerprint}"),
                (api, f"/api/report-queue/?failure={row.fingerprint}&processed=false"),
            ):
                seen = scans(lambda client=client, address=address: client.get(address))  # type: ignore[misc]
                assert read(seen) < 300, (statistics, address)
