"""What a project sets for its own pages does not reach the API, the probes and what they tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import include, path, re_path
from rest_framework.test import APIClient
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from reportqueue import queue
from reportqueue.api.base import ApiView
from reportqueue.api.urls import urlpatterns
from tests.conftest import ClientFactory, RowFactory

API, HEALTH = include("reportqueue.api.urls"), include("reportqueue.health")
CAPTURED = {
    "<slug:tenant>/api/": path("t/<slug:tenant>/api/", API),
    "<slug:pk>/api/": path("t/<slug:pk>/api/", API),
    "<slug:source>/api/": path("t/<slug:source>/api/", API),
    "<slug:kwargs>/api/": path("t/<slug:kwargs>/api/", API),
    "a group without a name": re_path(r"^t/(\w+)/api/", API),
    "an extra argument": path("t/shop/api/", API, {"extra": 1}),
}
POLICIES = sorted(name for name in vars(APIView) if name.endswith(("_class", "_classes")))
PROBES = ("/healthz", "/readyz", "/status")


class NobodyAnyMore(BaseThrottle):
    """A limit that is used up."""

    def allow_request(self, request: Any, view: Any) -> bool:
        return False

    def wait(self) -> float:
        return 86_400


def test_every_policy_of_the_rest_framework_is_set_by_the_app():
    assert "throttle_classes" in POLICIES
    assert [name for name in POLICIES if name not in vars(ApiView)] == []


@pytest.mark.parametrize("pattern", urlpatterns, ids=lambda pattern: pattern.name or "unknown")
def test_no_endpoint_has_a_limit_of_the_project(pattern: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(APIView, "throttle_classes", [NobodyAnyMore])
    assert pattern.callback.cls().get_throttles() == []


def test_a_limit_of_the_project_stops_no_claim_and_no_heartbeat(
    monkeypatch: pytest.MonkeyPatch, client_with: ClientFactory, make_row: RowFactory
):
    monkeypatch.setattr(APIView, "throttle_classes", [NobodyAnyMore])
    api, row = client_with("consume_reportqueue"), make_row()

    def post(path: str, **body: Any) -> Any:
        answer = api.post(f"/api/report-queue/{path}", body, format="json")
        assert answer.status_code == 200, answer.content
        return answer.json()

    (item,) = post("claim/", consumer="sensor")["queue"]
    started = post(f"{row.pk}/start/", generation=item["generation"], run_id="run")
    post(f"{row.pk}/heartbeat/", lease_token=started["lease_token"])
    assert post(f"{row.pk}/complete/", lease_token=started["lease_token"])["status"] == "succeeded"


def test_a_project_that_asks_for_a_login_everywhere_leaves_tokens_and_probes_alone(
    settings: Any, client: Client, client_with: ClientFactory
):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert client.get("/admin/reportqueue/").status_code == 302
    assert {path: client.get(path).status_code for path in PROBES} == dict.fromkeys(PROBES, 200)
    answer = client_with("consume_reportqueue").post("/api/report-queue/claim/", {"consumer": "sensor"}, format="json")
    assert answer.status_code == 200


@pytest.mark.parametrize("prefix", ["", "probes/<slug:of>/"])
def test_a_probe_may_name_any_host_and_speak_plain_http(db: None, settings: Any, client: Client, prefix: str):
    settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": [path(prefix, HEALTH), path("api/", API)]})
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["reports.example.com"], True
    below = f"/{prefix}".replace("<slug:of>", "web")
    for name in PROBES:
        assert client.get(f"{below.rstrip('/')}{name}", headers={"Host": "10.2.3.4:8000"}).status_code == 200, name
    for other in ("/api/report-queue/", f"{below}healthz/", "/nowhere/status"):
        assert client.get(other, headers={"Host": "10.2.3.4:8000"}).status_code in (301, 400), other


@pytest.fixture
def cached(settings: Any) -> Iterator[None]:
    """The project caches its pages."""
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    cache.clear()
    yield
    cache.clear()


@pytest.mark.parametrize("path", PROBES)
def test_a_probe_is_not_answered_from_the_projects_cache(cached: None, db: None, client: Client, path: str):
    for _ in range(2):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "no-store" in answer["Cache-Control"]


def test_a_row_is_not_shown_from_the_projects_cache_least_of_all_to_others(cached: None, client_with: ClientFactory):
    api: APIClient = client_with("view_reportqueue")
    addresses = ("/api/report-queue/", "/api/pending-reports/")
    for address in addresses:
        assert "no-store" in api.get(address)["Cache-Control"]
    row = queue.enqueue(7, 8, params={"secret": 1})
    for address in addresses:
        assert str(row.pk) in api.get(address).content.decode(), "the consumer polls, and must see it"
        assert client_with(None).get(address).status_code == 401


@pytest.fixture(params=CAPTURED.values(), ids=CAPTURED)
def below_parameters(request: pytest.FixtureRequest, settings: Any) -> None:
    """The API is included below a prefix that captures parameters, which Django passes on to each view."""
    settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": [request.param]})


def test_the_api_works_below_a_prefix_with_parameters(
    below_parameters: None, client_with: ClientFactory, make_row: RowFactory
):
    api, row = client_with("view_reportqueue", "consume_reportqueue"), make_row()
    claimed = api.post("/t/shop/api/report-queue/claim/", {"consumer": "sensor"}, format="json")
    assert [item["queue_id"] for item in claimed.json()["queue"]] == [row.pk]
    for method in (api.get, api.head):
        assert method(f"/t/shop/api/report-queue/{row.pk}/").status_code == 200
    assert api.get("/t/shop/api/report-queue/").json()["queue"][0]["queue_id"] == row.pk
    unknown = {
        "report-queue/0/": (api.get, 404, "not-found"),
        "report-queue/claim/": (api.get, 405, "method-not-allowed"),
        "webhooks/no-shop/": (api.post, 404, "not-found"),
        "nowhere/": (api.get, 404, "not-found"),
    }
    for address, (method, status, kind) in unknown.items():
        answer = method(f"/t/shop/api/{address}")
        assert (answer.status_code, answer.json()["type"]) == (status, kind), address


@pytest.mark.parametrize("prefix", [path("t/<slug:tenant>/", HEALTH), re_path(r"^t/(\w+)/", HEALTH)])
def test_the_probes_work_below_a_prefix_with_parameters(db: None, settings: Any, client: Client, prefix: Any):
    settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": [prefix]})
    assert {path: client.get(f"/t/shop{path}").status_code for path in PROBES} == dict.fromkeys(PROBES, 200)
