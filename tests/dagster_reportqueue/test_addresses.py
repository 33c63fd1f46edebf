"""The API is where the project includes it: the client has no path built in."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from django.urls import include, path

from dagster_reportqueue.client import ApiError, ApiRefused, ReportQueueClient, parsing
from tests.conftest import build_row, build_schedule
from tests.dagster_reportqueue.conftest import ClientFactory, allow_consumer
from tests.dagster_reportqueue.front import Front


def mount(settings: Any, prefix: str) -> None:
    """A project that includes the API there and nowhere else."""
    urls = ModuleType("urls")
    urls.urlpatterns = [path(prefix, include("reportqueue.api.urls"))]  # type: ignore[attr-defined]
    settings.ROOT_URLCONF = urls


def whole_road(made: ReportQueueClient) -> None:
    """Every kind of call: of rows, of schedules, of lists with several pages."""
    for codename in ("view_reportqueue", "view_reportschedule"):
        allow_consumer(codename)
    schedule, rows = build_schedule(), [build_row() for _ in range(3)]
    assert made.plan("cron").plan.version
    assert len(made.pending()) == 3
    assert [row.queue_id for row in made.rows("queued")] == [row.pk for row in rows]
    first, second, third = made.claim("sensor").items
    token = made.start(first.queue_id, generation=1, run_id="run").lease_token
    assert made.heartbeat(first.queue_id, lease_token=token) is False
    made.complete(first.queue_id, lease_token=token)
    tokens = {pk: one.lease_token for pk, one in made.start_many({second.queue_id: 1}, run_id="run").items()}
    assert made.complete_many(tokens, results={second.queue_id: None}) == {second.queue_id: "succeeded"}
    made.mark_processed(third.queue_id)
    assert made.row(third.queue_id).status == "succeeded"
    assert made.content(third.queue_id).params == {}
    with pytest.raises(ApiRefused) as refused:
        made.start_firing(schedule.pk, trigger_time=schedule.next_run_at, run_id="run")
    assert refused.value.status == 409, "the API answers, and no sensor owns the firing"


@pytest.mark.parametrize("prefix", ["api/", "tools/reports-api/", "v1/", "api/reports/"])
def test_a_client_works_wherever_the_api_is_included(
    settings: Any, make_client: ClientFactory, front: Front, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parsing, "PAGE", 1)
    mount(settings, prefix)
    whole_road(make_client(f"{front.url}/{prefix}"))


@pytest.mark.parametrize("end", ["", "/", "\n"])
def test_an_address_without_a_path_means_the_usual_one(make_client: ClientFactory, front: Front, end: str):
    assert make_client(front.url + end).claim("sensor").items == []
    assert front.calls[0].path.startswith("/api/")


def test_a_clone_has_the_same_address(settings: Any, make_client: ClientFactory, front: Front):
    mount(settings, "v1/")
    clone = make_client(f"{front.url}/v1").clone()
    assert clone.claim("sensor").items == []
    clone.close()


@pytest.mark.parametrize(
    "path", ["/elsewhere", "/api/v2", "/api/report-queue", ""], ids=["not here", "below", "too far", "the usual one"]
)
def test_a_wrong_address_is_not_taken_for_a_row_that_is_gone(
    settings: Any, make_client: ClientFactory, front: Front, path: str
):
    """A run whose row is gone ends in peace. With a wrong address, every report would vanish like that."""
    mount(settings, "api/" if path else "elsewhere/")
    row = build_row()
    with pytest.raises(ApiRefused, match="check REPORTQUEUE_URL") as refused:
        make_client(front.url + path).start(row.pk, generation=1, run_id="run")
    assert not refused.value.moved_on


def test_a_row_that_is_gone_is_told_from_a_wrong_address(make_client: ClientFactory):
    with pytest.raises(ApiRefused) as refused:
        make_client().start(1, generation=1, run_id="run")
    assert refused.value.moved_on


def test_files_beside_the_api_and_at_the_root_are_reached(make_client: ClientFactory, stranger: Front):
    made = make_client(f"{stranger.url}/tools/api", retries=0)
    for address, reached in {"reports/": "/tools/api/reports/", "../files/a": "/tools/files/a", "/b": "/b"}.items():
        with pytest.raises(ApiError):
            made.request("GET", address)
        assert stranger.calls[-1].path == reached


@pytest.mark.parametrize("address", ["//elsewhere.example/reports/", "https://elsewhere.example/reports/"])
def test_the_token_is_not_sent_to_another_host(make_client: ClientFactory, address: str):
    with pytest.raises(ValueError, match="another host"):
        make_client().request("GET", address)
