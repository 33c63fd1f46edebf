"""The demo's artifacts: each report's own, also where one run makes many; nobody else's, and never half of one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage, InMemoryStorage, storages
from rest_framework.test import APIClient

from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import ClientFactory, RowFactory
from tests.integration.test_api_endpoints import post, problem


class OverwritingStorage(InMemoryStorage):
    """As a bucket of objects."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "artifacts"
    return tmp_path / "artifacts"


@pytest.fixture
def api(client_with: ClientFactory, folder: Path) -> APIClient:
    return client_with("consume_reportqueue", "view_reportqueue")


@pytest.fixture
def other(client_with: ClientFactory, folder: Path) -> APIClient:
    """Another user with the same permissions."""
    return client_with("consume_reportqueue", "view_reportqueue")


def send(api: APIClient, path: str, body: bytes = b"<p>made</p>", **more: Any) -> Any:
    return api.put(f"/artifacts/{path}", body, content_type="text/html", **more)


def put(api: APIClient, path: str, body: bytes = b"<p>made</p>") -> int:
    code: int = send(api, path, body).status_code
    return code


def stored(api: APIClient, path: str) -> bytes:
    content: bytes = api.get(f"/artifacts/{path}").content
    return content


def started(api: APIClient, row: ReportQueue, run_id: str = "run") -> str:
    return str(post(api, f"{row.pk}/start/", {"generation": 1, "run_id": run_id})["lease_token"])


def test_reports_of_one_run_have_files_of_their_own(api: APIClient, make_row: RowFactory):
    rows = [make_row(status=Status.DISPATCHED) for _ in range(2)]
    queue.start_many({row.pk: 1 for row in rows}, run_id="run")
    for row in rows:
        assert put(api, f"run/{row.pk}/report.html", str(row.pk).encode()) == 200
    for row in rows:
        assert stored(api, f"run/{row.pk}/report.html") == str(row.pk).encode()


def test_a_report_that_has_ended_is_closed_and_the_others_of_its_run_are_not(api: APIClient, make_row: RowFactory):
    first, second = (make_row(status=Status.DISPATCHED) for _ in range(2))
    started = queue.start_many({first.pk: 1, second.pk: 1}, run_id="run")
    queue.complete(first.pk, lease_token=started[first.pk].lease_token)
    assert put(api, f"run/{second.pk}/report.html") == 200
    assert put(api, f"run/{first.pk}/report.html") == 409


def test_a_run_that_was_launched_by_hand_has_a_place_too(api: APIClient):
    assert put(api, "by-hand/report.html") == 200
    assert stored(api, "by-hand/report.html") == b"<p>made</p>"


# Whose file it is.


def test_only_the_user_of_the_run_may_store_and_replace_its_files(
    api: APIClient, other: APIClient, make_row: RowFactory
):
    row = make_row(status=Status.DISPATCHED)
    started(api, row)
    for path in (f"run/{row.pk}/report.html", "run/report.html"):
        problem(send(other, path, b"foreign"), "held-by-another", 403)
        assert put(api, path, b"one") == 200
        problem(send(other, path, b"foreign"), "held-by-another", 403)
        assert stored(api, path) == b"one"
        assert put(api, path, b"two") == 200
        assert stored(api, path) == b"two"


@pytest.mark.parametrize("path", ["by-hand/report.html", "run/{pk}/report.html"], ids=["by hand", "marked"])
def test_what_the_queue_does_not_follow_is_overwritten_by_nobody(
    api: APIClient, other: APIClient, make_row: RowFactory, path: str
):
    path = path.format(pk=make_row(status=Status.SUCCEEDED).pk)
    assert put(api, path, b"one") == 200
    for client in (api, other):
        problem(send(client, path, b"two"), "invalid-state", 409)
    assert put(api, path, b"one") == 200, "a call could not be repeated"
    assert stored(api, path) == b"one"


@pytest.mark.parametrize(
    "backend",
    ["django.core.files.storage.InMemoryStorage", "tests.integration.test_artifacts.OverwritingStorage"],
    ids=["keeps a file of that name", "overwrites"],
)
def test_any_storage_of_django_will_do(api: APIClient, make_row: RowFactory, settings: Any, folder: Path, backend: str):
    settings.STORAGES = {**settings.STORAGES, "artifacts": {"BACKEND": backend}}
    row = make_row(status=Status.DISPATCHED)
    started(api, row)
    path = f"run/{row.pk}/report.html"
    assert put(api, path, b"one") == put(api, path, b"two") == 200
    assert stored(api, path) == b"two"
    assert storages["artifacts"].listdir(f"run/{row.pk}") == ([], ["report.html"])
    assert put(api, "by-hand/report.html", b"one") == put(api, "by-hand/report.html", b"one") == 200
    problem(send(api, "by-hand/report.html", b"two"), "invalid-state", 409)
    assert not folder.exists()


# What is stored, and what is not.


def test_an_empty_file_is_a_file(api: APIClient):
    assert put(api, "by-hand/report.csv", b"") == 200
    answer = api.get("/artifacts/by-hand/report.csv")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("digits", [19, 20, 300, 5000])
def test_an_id_beyond_every_row_is_not_found(api: APIClient, digits: int):
    path = f"run/{'9' * digits}/report.html"
    assert put(api, path) == 404
    assert api.get(f"/artifacts/{path}").status_code == 404


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_on_a_full_disk_the_earlier_file_stays(
    api: APIClient, make_row: RowFactory, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    row = make_row(status=Status.DISPATCHED)
    started(api, row)
    path = f"run/{row.pk}/report.html"
    assert put(api, path, b"one") == 200
    before = sorted(folder.rglob("*"))

    def write_half(storage: FileSystemStorage, name: str, content: Any) -> str:
        Path(storage.path(name)).write_bytes(content.read()[:1])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileSystemStorage, "_save", write_half)
    for name in ("report.html", "report.csv"):
        refused = problem(send(api, f"run/{row.pk}/{name}", b"two"), "storage-full", 507)
        assert "Nothing was changed" in refused["detail"]
    assert stored(api, path) == b"one"
    assert sorted(folder.rglob("*")) == before, "something half written is left"
    monkeypatch.undo()
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(number, "full")))
    problem(send(api, path, b"two"), "storage-full", 507)
    assert stored(api, path) == b"one"


def test_other_users_of_the_machine_cannot_read_the_files(api: APIClient, folder: Path):
    assert put(api, "by-hand/report.html") == 200
    for one in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(one.stat().st_mode) & 0o077 == 0, one
