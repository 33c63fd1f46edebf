"""API tokens: who is let in with one, what it may do, and what is kept of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.authentication import BaseAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.test import APIClient

from reportqueue import credentials, tokens
from reportqueue.clock import database_now
from reportqueue.conf import authentication_classes
from reportqueue.errors import TokenRefused
from reportqueue.models import ApiToken
from reportqueue.models.token import SCOPES
from tests.concurrency import at_once
from tests.conftest import minutes_ago
from tests.integration.test_api_endpoints import CALLS, problem

pytestmark = pytest.mark.django_db
ROWS = "/api/report-queue/"
CLAIM = f"{ROWS}claim/"


def user_with(*codenames: str, name: str = "dagster") -> User:
    """A user with just these permissions of reportqueue."""
    user = User.objects.create_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def caller(key: str, scheme: str = "Token") -> APIClient:
    """A program that sends this key."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {key}")
    return client


@pytest.fixture
def issued() -> tokens.Issued:
    """The token of a user who may view rows."""
    return tokens.issue(user_with("view_reportqueue"), name="host")


def refusal(key: str) -> str:
    """Why a call with this key is not let in."""
    response = caller(key).get(ROWS)
    detail: str = problem(response, "not-authenticated", 401)["detail"]
    assert response["WWW-Authenticate"] == "Token"
    return detail


# Who is let in.


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "bearer", "TOKEN"])
def test_a_token_opens_what_its_user_may(issued: tokens.Issued, scheme: str):
    assert caller(issued.key, scheme).get(ROWS).status_code == 200
    assert caller(issued.key, scheme).post(ROWS, {}, format="json").status_code == 403


def test_each_of_a_users_tokens_works_until_it_is_revoked(issued: tokens.Issued):
    other = tokens.issue(issued.token.user, name="other")
    assert tokens.revoke([other.token.pk]) == [other.token]
    assert tokens.revoke([other.token.pk]) == [], "the second time changes nothing"
    assert refusal(other.key) == f"The token rq_{other.token.identifier} was revoked."
    assert caller(issued.key).get(ROWS).status_code == 200


def test_a_token_ends_at_its_instant(issued: tokens.Issued):
    ApiToken.objects.update(expires_at=database_now() + timedelta(minutes=1))
    assert caller(issued.key).get(ROWS).status_code == 200
    ApiToken.objects.update(created_at=minutes_ago(2), expires_at=minutes_ago(1))
    assert refusal(issued.key) == f"The token rq_{issued.token.identifier} has expired."


def test_the_token_of_a_user_who_is_not_active_is_refused(issued: tokens.Issued):
    User.objects.update(is_active=False)
    assert refusal(issued.key) == f"The user of the token rq_{issued.token.identifier} is not active."


def with_another_end(key: str) -> str:
    return key[:-1] + ("a" if key[-1] != "a" else "b")


STRANGE: dict[str, Callable[[str], str]] = {
    "another secret": with_another_end,
    "another identifier": lambda key: credentials.new_key(),
    "no secret": lambda key: key[:16],
    "too long": lambda key: key + "a",
    "only the prefix": lambda key: "rq_",
    "letters of another script": lambda key: key[:-1] + "é",
    "a NUL": lambda key: key[:-1] + "\x00",
    "two words": lambda key: f"{key} {key}",
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("state", [{}, {"revoked_at": minutes_ago(1)}], ids=["good", "revoked"])
def test_who_does_not_have_the_whole_key_learns_nothing_of_the_token(
    issued: tokens.Issued, strange: str, state: dict[str, Any]
):
    ApiToken.objects.update(**state)
    before = ApiToken.objects.values().get()
    assert refusal(STRANGE[strange](issued.key)) == "The token is not valid."
    assert ApiToken.objects.values().get() == before


@pytest.mark.parametrize("header", ["Token 0123456789abcdef", "Bearer eyJhbGciOi", "Basic YTpi", "Token", "rq_x"])
def test_credentials_that_no_class_knows_are_said_to_be_invalid(header: str):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=header)
    assert "valid" in problem(client.get(ROWS), "not-authenticated", 401)["detail"].replace("Invalid", "valid")


# What it may do.


def test_the_scopes_are_the_permissions_of_all_calls():
    assert set(SCOPES) == {scope for call in CALLS for scope in call.scopes}
    assert Permission.objects.filter(content_type__app_label="reportqueue", codename__in=SCOPES).count() == len(SCOPES)


def test_a_token_may_use_those_of_its_users_permissions_that_its_scopes_name():
    user = user_with("view_reportqueue", "consume_reportqueue")
    key = tokens.issue(user, name="viewer", scopes=["view_reportqueue", "add_reportqueue"]).key
    assert caller(key).get(ROWS).status_code == 200
    body = {"report_id": 1, "modifier_id": 2}
    # A scope gives nothing that the user does not have.
    assert problem(caller(key).post(ROWS, body, format="json"), "permission-denied", 403)["detail"] == (
        "This call needs the permission reportqueue.add_reportqueue, which this user does not have."
    )
    # And the user's own permission is not enough.
    refused = caller(key).post(CLAIM, {"consumer": "sensor"}, format="json")
    assert problem(refused, "permission-denied", 403)["detail"] == (
        "This call needs the permission reportqueue.consume_reportqueue, which is not among the scopes of this token."
    )
    other = tokens.issue(user, name="all").key
    assert caller(other).post(CLAIM, {"consumer": "sensor"}, format="json").status_code == 200


def test_the_scopes_bind_a_superuser_too():
    key = tokens.issue(User.objects.create_superuser("root"), name="viewer", scopes=["view_reportqueue"]).key
    assert caller(key).get(ROWS).status_code == 200
    for call in CALLS:
        subject = call.subject() if call.subject else None
        response = call.send(caller(key), subject)
        assert (response.status_code == 403) is (set(call.scopes) != {"view_reportqueue"}), str(call)


def test_a_call_that_needs_several_permissions_names_each():
    (call,) = [call for call in CALLS if len(call.scopes) > 1]
    subject = call.subject() if call.subject else None
    user = user_with("add_reportqueue")
    key = tokens.issue(user, name="viewer", scopes=["view_reportqueue"]).key
    detail = problem(call.send(caller(key), subject), "permission-denied", 403)["detail"]
    assert detail == (
        "This call needs the permission reportqueue.view_reportschedule, which this user does not have. "
        "This call needs the permission reportqueue.add_reportqueue, which is not among the scopes of this token."
    )


@pytest.mark.parametrize("scopes", [["view_webhooksource"], ["reportqueue.view_reportqueue"], [7], "view_reportqueue"])
def test_scopes_that_do_not_exist_are_refused(scopes: Any):
    token = ApiToken(user=User.objects.create_user("dagster"), name="x", scopes=scopes)
    with pytest.raises(ValidationError) as error:
        token.clean()
    assert "consume_reportqueue" in str(error.value.message_dict["scopes"])


# What is kept.


def test_the_table_holds_no_key(issued: tokens.Issued):
    assert re.fullmatch(r"rq_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}", issued.key)
    stored = str(ApiToken.objects.values().get())
    assert issued.key[3:15] in stored
    assert issued.key[16:] not in stored
    assert issued.key not in repr(issued.token)


def test_two_tokens_share_nothing():
    keys = {credentials.new_key() for _ in range(100)}
    assert len({key[3:15] for key in keys}) == len({key[16:] for key in keys}) == 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", None),
        ("name", "a" * 101),
        ("name", "a\x00"),
        ("name", "\ud800"),
        ("expires_at", minutes_ago(1)),
        ("expires_at", datetime(2999, 1, 1)),  # noqa: DTZ001
        ("expires_at", datetime(1969, 1, 1)),  # noqa: DTZ001
        ("expires_at", "tomorrow"),
        ("scopes", "view_reportqueue"),
        ("scopes", None),
        ("scopes", 7),
        ("scopes", ["view"]),
        ("user", None),
        ("user", User()),
        ("key", "0123456789abcdef"),
        ("key", 7),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(field: str, value: Any):
    with pytest.raises(ValidationError) as error:
        tokens.issue(**{"user": User.objects.create_user("dagster"), "name": "x", field: value})
    assert list(error.value.message_dict) == [field]
    assert not ApiToken.objects.exists()


def test_a_key_of_another_form_is_refused():
    with pytest.raises(ValidationError, match="new_key"):
        tokens.issue(User.objects.create_user("dagster"), name="x", key="0123456789abcdef")


def test_a_key_that_exists_is_refused_and_the_transaction_goes_on(issued: tokens.Issued):
    for key in (issued.key, with_another_end(issued.key)):
        with pytest.raises(ValidationError, match=f"A token rq_{issued.token.identifier} exists already") as error:
            tokens.issue(issued.token.user, name="another", key=key)
        assert list(error.value.message_dict) == ["key"]
    assert ApiToken.objects.get() == issued.token


@pytest.mark.parametrize("wrong", [{"digest": "rq_not_hashed"}, {"expires_at": minutes_ago(9)}], ids=["digest", "end"])
def test_the_database_refuses_a_row_that_makes_no_sense(issued: tokens.Issued, wrong: dict[str, Any]):
    with pytest.raises(IntegrityError, match="reportqueue_token"), transaction.atomic():
        ApiToken.objects.update(**wrong)


# The last use.


def used_at() -> Any:
    return ApiToken.objects.get().last_used_at


def test_a_use_is_noted_at_most_once_a_minute(issued: tokens.Issued):
    assert used_at() is None
    tokens.authenticate(issued.key)
    first = used_at()
    assert abs(database_now() - first) < timedelta(minutes=1)
    with CaptureQueriesContext(connection) as queries:
        tokens.authenticate(issued.key)
    assert len(queries) == 1, "a call costs one SELECT"
    assert used_at() == first
    ApiToken.objects.update(last_used_at=minutes_ago(1.1))
    tokens.authenticate(issued.key)
    assert used_at() >= first


def test_a_refused_use_is_not_noted(issued: tokens.Issued):
    tokens.revoke([issued.token.pk])
    with pytest.raises(TokenRefused):
        tokens.authenticate(issued.key)
    assert used_at() is None


def unlocked(key: str) -> ApiToken:
    """What `authenticate` answers without waiting for any lock."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 1")
    return tokens.authenticate(key)


@pytest.mark.django_db(transaction=True)
def test_a_locked_token_lets_its_calls_through(issued: tokens.Issued):
    with transaction.atomic():
        ApiToken.objects.select_for_update().get()
        (found,) = at_once([lambda: unlocked(issued.key)])
    assert found == issued.token
    assert used_at() is None
    tokens.authenticate(issued.key)
    assert used_at() is not None


@pytest.mark.django_db(transaction=True)
def test_first_calls_at_once_are_all_let_in(issued: tokens.Issued):
    assert at_once([lambda: tokens.authenticate(issued.key)] * 8) == [issued.token] * 8
    assert used_at() is not None


# The setting.


class Named(BaseAuthentication):
    """A project's own class: a header names the user."""

    def authenticate(self, request: Any) -> Any:
        if (name := request.headers.get("X-User")) is None:
            return None
        user = User.objects.filter(username=name).first()
        if user is None:
            raise AuthenticationFailed("There is no such user.")
        return user, name

    def authenticate_header(self, request: Any) -> str:
        return "X-User"


class Silent(Named):
    """One that names no scheme."""

    authenticate_header = BaseAuthentication.authenticate_header


def names(paths: list[Any]) -> list[str]:
    return [path.__name__ for path in paths]


def test_tokens_of_the_rest_framework_are_accepted_where_its_app_is_installed(monkeypatch: pytest.MonkeyPatch):
    key = Token.objects.create(user=user_with("view_reportqueue")).key
    assert names(authentication_classes()) == [
        "ApiTokenAuthentication",
        "TokenAuthentication",
        "SessionAuthentication",
    ]
    assert caller(key).get(ROWS).status_code == 200
    assert caller(key).post(ROWS, {}, format="json").status_code == 403
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: name != "rest_framework.authtoken")
    assert names(authentication_classes()) == ["ApiTokenAuthentication", "SessionAuthentication"]
    problem(caller(key).get(ROWS), "not-authenticated", 401)


def test_a_project_names_its_own_classes(settings: Any, issued: tokens.Issued):
    settings.REPORTQUEUE = {"AUTHENTICATION_CLASSES": [f"{__name__}.Named"]}
    response = caller(issued.key).get(ROWS)
    assert "valid" in problem(response, "not-authenticated", 401)["detail"]
    assert response["WWW-Authenticate"] == "X-User"
    assert APIClient().get(ROWS, headers={"X-User": "dagster"}).status_code == 200
    assert APIClient().post(ROWS, {}, format="json", headers={"X-User": "dagster"}).status_code == 403
    refused = APIClient().get(ROWS, headers={"X-User": "nobody"})
    assert problem(refused, "not-authenticated", 401)["detail"] == "There is no such user."


def test_a_stranger_gets_401_also_if_only_a_later_class_names_its_scheme(settings: Any):
    settings.REPORTQUEUE = {
        "AUTHENTICATION_CLASSES": (f"{__name__}.Silent", "reportqueue.api.authentication.ApiTokenAuthentication")
    }
    response = APIClient().get(ROWS)
    problem(response, "not-authenticated", 401)
    assert response["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere.Class", "nowhere"),
        ("Token", "Token"),
        ("rest_framework.authentication.Nothing", "Nothing"),
        ("reportqueue.tokens.authenticate", "no method"),
        ("reportqueue.models.ApiToken", "no method"),
        ("django.contrib.auth.backends.ModelBackend", "no method"),
        (".", "Empty module name"),
    ],
)
def test_a_path_that_is_no_class_is_named_with_a_remedy(settings: Any, path: str, why: str):
    settings.REPORTQUEUE = {"AUTHENTICATION_CLASSES": [path]}
    with pytest.raises(ImproperlyConfigured) as error:
        authentication_classes()
    said = str(error.value)
    assert "REPORTQUEUE['AUTHENTICATION_CLASSES']" in said
    assert repr(path) in said
    assert why in said
    assert "ApiTokenAuthentication" in said


def test_a_use_that_cannot_be_noted_stops_no_call(issued: tokens.Issued):
    """As on a database that may only be read."""
    with transaction.atomic():
        connection.cursor().execute("SET TRANSACTION READ ONLY")
        assert tokens.authenticate(issued.key) == issued.token
    assert ApiToken.objects.get(pk=issued.token.pk).last_used_at is None
