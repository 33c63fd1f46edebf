"""Who may do what: without the one right permission every call is refused, and nothing has changed."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from reportqueue import tokens
from reportqueue.models import ReportQueue
from reportqueue.states import Status
from tests.conftest import ClientFactory, RowFactory
from tests.integration.test_api_endpoints import CALLS, WITH_BODY, Call, problem, tables

pytestmark = pytest.mark.django_db

SCOPES = {
    *(f"{verb}_reportqueue" for verb in ("view", "add", "consume", "cancel", "requeue", "pause")),
    *(f"{verb}_report" for verb in ("view", "add", "change", "delete")),
    *(f"{verb}_reportschedule" for verb in ("view", "add", "change", "delete")),
    *(f"{verb}_alertrule" for verb in ("view", "add", "change", "delete")),
    *(f"{verb}_webhooksubscription" for verb in ("view", "add", "change", "delete")),
    *(f"{verb}_eventdelivery" for verb in ("view", "redeliver")),
}
each_call = pytest.mark.parametrize("call", CALLS, ids=str)


def user_with(*codenames: str) -> User:
    user = User.objects.create_user("person")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


@each_call
def test_without_a_token_is_401_and_changes_nothing(call: Call, client_with: ClientFactory):
    subject = call.subject() if call.subject else None
    before = tables()
    response = call.send(client_with(None), subject)
    problem(response, "not-authenticated", 401)
    assert response["WWW-Authenticate"] == "Token"
    assert tables() == before


@each_call
def test_with_a_wrong_token_is_401_and_changes_nothing(call: Call):
    subject = call.subject() if call.subject else None
    before = tables()
    response = call.send(APIClient(), subject, Authorization="Token 0123456789abcdef")
    problem(response, "not-authenticated", 401)
    assert response["WWW-Authenticate"] == "Token"
    assert tables() == before


@each_call
def test_with_every_permission_but_the_right_one_is_403_and_changes_nothing(call: Call, client_with: ClientFactory):
    subject = call.subject() if call.subject else None
    before = tables()
    for scope in call.scopes:
        problem(call.send(client_with(*SCOPES - {scope}), subject), "permission-denied", 403)
    assert tables() == before


@each_call
def test_the_right_permission_is_enough(call: Call, client_with: ClientFactory):
    subject = call.subject() if call.subject else None
    response = call.send(client_with(*call.scopes), subject)
    assert response.status_code == call.code, response.content


@each_call
def test_a_person_who_is_logged_in_needs_the_same_permission(call: Call):
    subject = call.subject() if call.subject else None
    browser = APIClient()
    user = user_with()
    browser.force_login(user)
    before = tables()
    problem(call.send(browser, subject), "permission-denied", 403)
    assert tables() == before
    user.user_permissions.set(Permission.objects.filter(codename__in=call.scopes))
    assert call.send(browser, subject).status_code == call.code


@pytest.mark.parametrize("call", [call for call in CALLS if call.method != "GET"], ids=str)
def test_a_session_without_the_csrf_token_changes_nothing(call: Call):
    subject = call.subject() if call.subject else None
    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(user_with(*SCOPES))
    before = tables()
    assert "CSRF" in problem(call.send(browser, subject), "permission-denied", 403)["detail"]
    assert tables() == before
    browser.cookies["csrftoken"] = "a" * 32
    assert call.send(browser, subject, **{"X-CSRFToken": "a" * 32}).status_code == call.code


def test_a_token_needs_no_csrf_token(client_with: ClientFactory):
    client = APIClient(enforce_csrf_checks=True)
    client.credentials(**client_with("add_reportqueue")._credentials)
    assert client.post("/api/report-queue/", {"report_id": 1, "modifier_id": 2}, format="json").status_code == 201


@each_call
def test_an_inactive_user_is_a_stranger(call: Call):
    subject = call.subject() if call.subject else None
    user = user_with(*SCOPES)
    by_token, by_session = APIClient(), APIClient()
    by_token.credentials(HTTP_AUTHORIZATION=f"Token {tokens.issue(user, name='test').key}")
    by_session.force_login(user)
    user.is_active = False
    user.save()
    before = tables()
    for client in (by_token, by_session):
        response = call.send(client, subject)
        problem(response, "not-authenticated", 401)
        assert response["WWW-Authenticate"] == "Token"
    assert tables() == before


@pytest.mark.parametrize("call", WITH_BODY, ids=str)
def test_a_stranger_learns_nothing_from_a_bad_body(call: Call, client_with: ClientFactory):
    subject = call.subject() if call.subject else None
    for client, code in ((client_with(None), 401), (client_with(), 403)):
        response = client.generic(call.method, call.address(subject), "{", "application/json")
        assert response.status_code == code, response.content


def test_a_token_in_the_body_does_not_open_the_cancel_of_others(client_with: ClientFactory, make_row: RowFactory):
    row = make_row(status=Status.RUNNING)
    queued = make_row()
    client = client_with("consume_reportqueue")
    before = tables()
    other = {"lease_token": "00000000-0000-4000-8000-000000000000"}
    problem(client.post(f"/api/report-queue/{row.pk}/cancel/", other, format="json"), "stale-lease", 409)
    problem(client.post(f"/api/report-queue/{queued.pk}/cancel/", other, format="json"), "stale-lease", 409)
    for nothing in (None, "", [], {}):
        response = client.post(f"/api/report-queue/{queued.pk}/cancel/", {"lease_token": nothing}, format="json")
        problem(response, "validation", 400)
    assert tables() == before


def test_a_method_that_an_endpoint_does_not_have_is_405_for_those_who_are_known(client_with: ClientFactory):
    response = client_with().put("/api/report-queue/", {}, format="json")
    problem(response, "method-not-allowed", 405)
    assert response["Allow"] == "GET, POST, HEAD, OPTIONS"
    problem(client_with(None).put("/api/report-queue/", {}, format="json"), "not-authenticated", 401)


def test_head_needs_what_get_needs(client_with: ClientFactory):
    assert client_with("view_reportqueue").head("/api/report-queue/").status_code == 200
    assert client_with("add_reportqueue").head("/api/report-queue/").status_code == 403


def test_an_address_that_is_not_there_is_a_problem_document(client_with: ClientFactory):
    for path in ("/api/", "/api/report-queue", "/api/report-queue/1/restart/", "/api/report-queue/x/"):
        for client in (client_with(None), client_with()):
            problem(client.get(path), "not-found", 404)
            problem(client.post(path, {}, format="json"), "not-found", 404)
    assert not ReportQueue.objects.exists()
