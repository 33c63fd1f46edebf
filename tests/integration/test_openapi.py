"""The API's description: what is checked in is what the code says, and what docs/api.md says."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.staticfiles import finders
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.validation import validate_schema
from rest_framework.views import APIView

from project.environment import BASE_DIR
from reportqueue.api import problems, urls
from reportqueue.api.openapi import document, inspector, refusals, writer
from reportqueue.api.views import schema
from tests import openapi
from tests.conftest import ClientFactory
from tests.integration.test_admin_content_policy import INLINE
from tests.integration.test_api_endpoints import CALLS, Call, problem

PAGE = (BASE_DIR / "docs" / "api.md").read_text()
OPERATIONS = openapi.operations()
LOCK = (BASE_DIR / "requirements.txt").read_text()
PINNED = all(f"\n{name}=={version(name)} " in LOCK for name in ("django", "djangorestframework", "drf-spectacular"))
NAMES = [one["operationId"] for *_, one in OPERATIONS]
urlpatterns = [path("<slug:tenant>/api/", include("reportqueue.api.urls"))]


def described(call: Call) -> dict[str, Any]:
    """The operation of a call."""
    (pattern,) = [one for one in urls.urlpatterns if one.name == call.name]
    template = re.sub(r"<\w+:(pk)>", "{id}", f"/{pattern.pattern}")
    found: dict[str, Any] = openapi.described()["paths"][template][call.method.lower()]
    return found


@pytest.mark.skipif(not PINNED, reason="the document is written with the versions of requirements.txt")
def test_the_file_is_what_the_code_says_and_drf_spectacular_warns_of_nothing(settings: Any):
    settings.LANGUAGE_CODE = "de"
    assert writer.written() == document.PATH.read_text(), "run: .venv/bin/python -m tools.openapi"


def test_a_warning_of_drf_spectacular_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(writer.SETTINGS, "AUTHENTICATION_WHITELIST", None)  # the tests' DRF tokens are described, too
    monkeypatch.setattr(inspector.ReportQueueTokens, "target_class", None)
    with pytest.raises(writer.Warned, match=r"could not resolve authenticator .*ApiTokenAuthentication"):
        writer.written()


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_each_call_is_described_with_its_status_and_its_permission(call: Call):
    found = described(call)
    assert str(call.code) in found["responses"]
    if call.name.startswith("bulk") and call.method == "POST":
        return  # the permission is that of the verb
    if not call.variant:
        assert all(f"`{name}`" in found["description"].rpartition("Needs ")[2] for name in call.scopes)


def test_each_view_has_the_parameters_that_are_described():
    for view, operations in inspector.OPERATIONS.items():
        for method, operation in operations.items():
            named = {one.name for one in operation.parameters if one.location == "query"}
            assert named == (set(view.parameters) if method == "GET" else set()), (view, method)


@pytest.mark.parametrize(("path", "method", "found"), OPERATIONS, ids=NAMES)
def test_each_operation_has_an_example_and_the_examples_fit(path: str, method: str, found: dict[str, Any]):
    bodies = [found.get("requestBody", {})]
    answers = [openapi.resolved(one) for one in found["responses"].values()]
    shown = 0
    for content in (content for one in (*bodies, *answers) for content in one.get("content", {}).values()):
        assert content["examples"]
        for name, example in content["examples"].items():
            assert openapi.problems(content["schema"], example["value"]) == [], name
            shown += 1
    assert shown
    for answer in answers:
        assert answer["description"]


def test_names_are_used_once():
    assert len(set(NAMES)) == len(NAMES)
    assert all(one["tags"] and one["summary"] for *_, one in OPERATIONS)
    named = {one["name"] for one in openapi.described()["tags"]}
    assert {tag for *_, one in OPERATIONS for tag in one["tags"]} == named


def test_the_page_names_each_call():
    # `POST report-queue/{id}/...` stands before a table of verbs.
    verbs = {f"/report-queue/{{id}}/{verb}/" for verb in re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE)}
    calls = re.findall(r"`(GET|POST|PATCH|DELETE) ([\w{}/-]+/)(?:\.\.\.)?`", PAGE)
    named = {(method.lower(), f"/{re.sub('{report_id}', '{id}', path)}") for method, path in calls}
    named = {one for one in named if one != ("post", "/report-queue/{id}/")} | {("post", path) for path in verbs}
    page = {("get", "/schema/ui/")}  # for people
    assert named - page == {(method, path) for path, method, _ in OPERATIONS}


def test_the_page_and_the_description_have_the_same_refusals():
    rows = re.findall(r"^\| (\d{3}) \| ((?:`[\w-]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    on_the_page = {kind: int(code) for code, kinds in rows for kind in re.findall(r"`([\w-]+)`", kinds)}
    assert on_the_page == refusals.CODES
    assert refusals.CODES.keys() == refusals.WHEN.keys() == problems.TITLES.keys()


@pytest.mark.django_db
def test_the_document_is_served_with_the_address_of_the_installation(client_with: ClientFactory, settings: Any):
    answer = client_with().get("/api/schema/")
    assert answer.json() == openapi.described()
    assert answer.json()["servers"] == [{"url": "/api"}]
    settings.ROOT_URLCONF = __name__
    assert client_with().get("/shop/api/schema/").json()["servers"] == [{"url": "/shop/api"}]
    for name in ("schema/", "schema/ui/"):
        problem(client_with(None).get(f"/shop/api/{name}"), "not-authenticated", 401)


def test_the_page_holds_no_script_and_no_style(admin_client: Client):
    answer = admin_client.get("/api/schema/ui/")
    text = answer.content.decode()
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert INLINE.findall(text) == []
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(sources) == 5
    for source in sources:
        assert finders.find(source.removeprefix("/static/")), source


def test_without_swagger_ui_the_page_says_how_to_get_it(client_with: ClientFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "SIDECAR", "not_installed")
    assert (
        "pip install 'reportqueue[openapi]'"
        in problem(client_with().get("/api/schema/ui/"), "not-found", 404)["detail"]
    )
    assert client_with().get("/api/schema/").status_code == 200


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_the_schema_of_a_project_around_it_has_the_api_without_warnings(
    version: str, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    """With drf-spectacular as the project has set it up: its names cannot collide with ours."""
    from drf_spectacular.settings import patched_settings

    monkeypatch.setattr(APIView, "schema", AutoSchema())
    with patched_settings({"OAS_VERSION": version}):
        found = SchemaGenerator(urlconf=__name__).get_schema(public=True)
    assert not GENERATOR_STATS
    validate_schema(found)
    assert len(found["paths"]) == len(openapi.described()["paths"])
    (tenant,) = [
        one for one in found["paths"]["/{tenant}/api/report-queue/"]["get"]["parameters"] if one["in"] == "path"
    ]
    assert tenant["name"] == "tenant"
    ours = {name for name in found["components"]["schemas"] if not name.endswith("Enum")}
    assert [name for name in ours if not name.removeprefix("Patched").startswith("ReportQueue")] == []
    ids = [one["operationId"] for path in found["paths"].values() for one in path.values()]
    assert [name for name in ids if not name.startswith("reportqueue_")] == []


@pytest.mark.django_db
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_each_answer_is_as_described(call: Call, client_with: ClientFactory):
    subject = call.subject() if call.subject else None
    openapi.check(call.send(client_with(None), subject))
    openapi.check(call.send(client_with(), subject))
    done: HttpResponse = call.send(client_with(*call.scopes), subject)
    assert done.status_code == call.code
    openapi.check(done)


def test_the_document_is_in_the_package():
    assert Path(inspector.__file__).with_name("openapi.json") == document.PATH
    assert apps.is_installed(schema.SIDECAR)
