"""The demo's artifacts: each report's own, also where one run makes many."""

from __future__ import annotations

import pytest
from django.core.files.storage import InMemoryStorage
from rest_framework.test import APIClient

from project import artifacts
from reportqueue import queue
from reportqueue.states import Status
from tests.conftest import ClientFactory, RowFactory


@pytest.fixture
def api(client_with: ClientFactory, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    monkeypatch.setattr(artifacts, "default_storage", InMemoryStorage())
    return client_with("consume_reportqueue", "view_reportqueue")


def put(api: APIClient, path: str, body: bytes = b"<p>made</p>") -> int:
    return api.put(f"/artifacts/{path}", body, content_type="text/html").status_code


def test_reports_of_one_run_have_files_of_their_own(api: APIClient, make_row: RowFactory):
    rows = [make_row(status=Status.DISPATCHED) for _ in range(2)]
    queue.start_many({row.pk: 1 for row in rows}, run_id="run")
    for row in rows:
        assert put(api, f"run/{row.pk}/report.html", str(row.pk).encode()) == 200
    for row in rows:
        assert api.get(f"/artifacts/run/{row.pk}/report.html").content == str(row.pk).encode()


def test_a_report_that_has_ended_is_closed_and_the_others_of_its_run_are_not(api: APIClient, make_row: RowFactory):
    first, second = (make_row(status=Status.DISPATCHED) for _ in range(2))
    started = queue.start_many({first.pk: 1, second.pk: 1}, run_id="run")
    queue.complete(first.pk, lease_token=started[first.pk].lease_token)
    assert put(api, f"run/{second.pk}/report.html") == 200
    assert put(api, f"run/{first.pk}/report.html") == 409


def test_a_run_that_was_launched_by_hand_has_a_place_too(api: APIClient):
    assert put(api, "by-hand/report.html") == 200
    assert api.get("/artifacts/by-hand/report.html").content == b"<p>made</p>"
