"""API tokens in the admin: shown once, made for oneself or by who may change users, revoked when that is confirmed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client
from django.utils import timezone

from reportqueue import tokens
from reportqueue.conf import OWN_TOKENS, SESSIONS
from reportqueue.errors import TokenRefused
from reportqueue.models import ApiToken
from tests.concurrency import at_once
from tests.conftest import minutes_ago
from tests.integration.test_admin_permissions import act, messages_of, staff, text_of

pytestmark = pytest.mark.django_db
TOKENS = "/admin/reportqueue/apitoken/"
KEY = re.compile(r"rq_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}")


@pytest.fixture
def issued() -> tokens.Issued:
    """The token of a program."""
    return tokens.issue(User.objects.create_user("dagster"), name="host-7", scopes=["consume_reportqueue"])


def person_of(client: Client) -> User:
    return User.objects.get(pk=client.session["_auth_user_id"])


def form(**more: Any) -> dict[str, Any]:
    return {"user_name": "dagster", "name": "host", **more}


def usable(issued: tokens.Issued) -> bool:
    try:
        tokens.authenticate(issued.key)
    except TokenRefused:
        return False
    return True


def test_a_new_token_is_shown_once(admin_client: Client):
    User.objects.create_user("dagster")
    until = timezone.now().replace(microsecond=0) + timedelta(days=9)
    made = admin_client.post(
        f"{TOKENS}add/",
        form(
            scopes=["view_reportqueue", "consume_reportqueue"],
            expires_at_0=until.strftime("%Y-%m-%d"),
            expires_at_1=until.strftime("%H:%M:%S"),
        ),
        follow=True,
    )
    (key,) = KEY.findall(text_of(made))
    token = tokens.authenticate(key)
    assert (token.user.username, token.name, token.expires_at) == ("dagster", "host", until)
    assert token.scopes == ["view_reportqueue", "consume_reportqueue"]
    for page in (TOKENS, f"{TOKENS}{token.pk}/change/", f"{TOKENS}{token.pk}/history/", "/admin/"):
        text = text_of(admin_client.get(page))
        assert key[16:] not in text
        assert token.digest not in text
    assert not LogEntry.objects.filter(change_message__contains=key[16:]).exists()
    assert not LogEntry.objects.filter(object_repr__contains=key[16:]).exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("user_name", "nobody", "There is no such user."),
        ("user_name", "gone", "This user is not active: a token would be refused."),
        ("user_name", "a\x00", "NUL characters are not allowed."),
        ("user_name", "a" * 1_001, "at most 1000 characters"),
        ("name", "", "This field is required."),
        ("scopes", ["view_webhooksource"], "is not one of the available choices"),
        ("expires_at_0", "2020-01-01", "Must be in the future."),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_at_its_field(admin_client: Client, field: str, value: Any, said: str):
    User.objects.create_user("dagster")
    User.objects.create_user("gone", is_active=False)
    page = admin_client.post(f"{TOKENS}add/", form(expires_at_1="00:00:00" * ("_0" in field)) | {field: value})
    (texts,) = page.context["adminform"].form.errors.values()
    assert said in texts[0]
    assert not ApiToken.objects.exists()


def test_a_token_that_the_api_would_not_accept_is_not_made(admin_client: Client, settings: Any):
    User.objects.create_user("dagster")
    settings.REPORTQUEUE = {"AUTHENTICATION_CLASSES": [SESSIONS]}
    assert f"Add &#x27;{OWN_TOKENS}&#x27;" in admin_client.post(f"{TOKENS}add/", form()).content.decode()
    assert not ApiToken.objects.exists()


def test_who_may_not_change_users_makes_tokens_for_nobody_else():
    User.objects.create_superuser("dagster")
    client = staff("view_apitoken", "add_apitoken")
    page = client.get(f"{TOKENS}add/")
    assert page.context["adminform"].form["user_name"].initial == person_of(client).username
    assert text_of(client.post(f"{TOKENS}add/", form(), follow=True)).count("shown this once") == 1
    assert ApiToken.objects.get().user == person_of(client)
    person_of(client).user_permissions.add(Permission.objects.get(codename="change_user"))
    client.post(f"{TOKENS}add/", form())
    assert ApiToken.objects.filter(user__username="dagster").count() == 1


def test_a_name_that_looks_up_another_user_makes_no_token_for_that_user():
    """U+FB01 is the letters "fi" in one sign; a name is looked up in its normal form."""
    User.objects.create_superuser("zzfi")
    client = staff("view_apitoken", "add_apitoken")
    User.objects.filter(pk=person_of(client).pk).update(username="zz\ufb01")
    client.post(f"{TOKENS}add/", form() | {"user_name": "zzfi"})
    assert ApiToken.objects.get().user == person_of(client)


def test_only_the_name_of_a_token_can_be_changed(admin_client: Client, issued: tokens.Issued):
    before = ApiToken.objects.values().get()
    page = f"{TOKENS}{issued.token.pk}/change/"
    admin_client.post(page, {"name": "host-8", "scopes": "[]", "user": "1", "digest": "0" * 64, "expires_at_0": ""})
    assert ApiToken.objects.values().get() == before | {"name": "host-8"}
    assert usable(issued)


def test_the_list_says_what_each_token_may_and_when_it_was_used(admin_client: Client, issued: tokens.Issued):
    ApiToken.objects.update(last_used_at=minutes_ago(3), created_at=minutes_ago(10), expires_at=minutes_ago(2))
    other = tokens.issue(User.objects.create_user("shop"), name="all").token
    page = text_of(admin_client.get(TOKENS))
    for said in ("dagster", f"rq_{issued.token.identifier}", "consume_reportqueue", "expired", "all of the user's"):
        assert said in page
    assert f"{ApiToken.objects.get(pk=issued.token.pk).last_used_at:%Y-%m-%d %H:%M}" in page
    assert "never" in page
    User.objects.filter(username="shop").update(is_active=False)
    assert "the user is not active" in text_of(admin_client.get(f"{TOKENS}{other.pk}/change/"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=host-7", ["host-7"]),
        ("q=shop", ["till"]),
        ("q=dagster+host", ["host-7"]),
        ("q=nothing", []),
        ("state=usable", ["till"]),
        ("state=expired", ["host-7"]),
        ("state=revoked", []),
    ],
)
def test_tokens_are_found(admin_client: Client, issued: tokens.Issued, query: str, found: list[str]):
    ApiToken.objects.update(created_at=minutes_ago(10), expires_at=minutes_ago(2))
    tokens.issue(User.objects.create_user("shop"), name="till")
    assert [token.name for token in admin_client.get(f"{TOKENS}?{query}").context["cl"].result_list] == found


def test_a_token_is_found_by_its_beginning_or_by_all_of_it(admin_client: Client, issued: tokens.Issued):
    tokens.issue(issued.token.user, name="other")
    for text in (f"rq_{issued.token.identifier}", issued.key):
        (token,) = admin_client.get(TOKENS, {"q": text}).context["cl"].result_list
        assert token == issued.token


def test_the_order_tells_nothing_of_the_hash(admin_client: Client, issued: tokens.Issued):
    listed = admin_client.get(f"{TOKENS}?o=2.3.4")
    assert "digest" not in str(listed.context["cl"].queryset.query.order_by)


# Revoking.


def test_revoking_is_asked_for_and_then_done(issued: tokens.Issued):
    client = staff("view_apitoken", "change_apitoken")
    asked = act(client, "revoke_selected", [issued.token], TOKENS)
    assert f"rq_{issued.token.identifier}" in text_of(asked)
    assert usable(issued), "nothing is revoked before it is confirmed"
    done = act(client, "revoke_selected", [issued.token], TOKENS, confirmed=asked.context["pks"])
    assert messages_of(done) == ["1 token revoked."]
    assert not usable(issued)
    assert LogEntry.objects.get().change_message == "Revoked in the admin"
    again = act(client, "revoke_selected", [issued.token], TOKENS, confirmed=f"{issued.token.pk},x,999")
    assert messages_of(again) == ["2 tokens were revoked or deleted already."]


def test_one_token_is_revoked_on_its_own_page(issued: tokens.Issued):
    client = staff("view_apitoken", "change_apitoken")
    address = f"{TOKENS}{issued.token.pk}/revoke/"
    assert address in text_of(client.get(f"{TOKENS}{issued.token.pk}/change/"))
    assert f"rq_{issued.token.identifier}" in text_of(client.get(address))
    assert usable(issued)
    done = client.post(address, follow=True)
    assert messages_of(done) == ["1 token revoked."]
    assert not usable(issued)
    assert address not in text_of(done)


def test_revoking_needs_the_permission_to_change(issued: tokens.Issued):
    client = staff("view_apitoken")
    address = f"{TOKENS}{issued.token.pk}/revoke/"
    assert "revoke_selected" not in text_of(client.get(TOKENS))
    assert address not in text_of(client.get(f"{TOKENS}{issued.token.pk}/change/"))
    act(client, "revoke_selected", [issued.token], TOKENS, confirmed=str(issued.token.pk))
    assert client.post(address).status_code == 403
    assert client.get(address).status_code == 403
    assert usable(issued)


def test_a_token_that_is_not_there_is_revoked_already():
    done = staff("view_apitoken", "change_apitoken").post(f"{TOKENS}7/revoke/", follow=True)
    assert "1 token was revoked or deleted already." in messages_of(done)


@pytest.mark.django_db(transaction=True)
def test_a_locked_token_is_said_to_be_locked(issued: tokens.Issued):
    client = staff("view_apitoken", "change_apitoken")
    with transaction.atomic():
        ApiToken.objects.select_for_update().get()
        (response,) = at_once([lambda: client.post(f"{TOKENS}{issued.token.pk}/revoke/", follow=True)])
    assert "Nothing was changed." in messages_of(response)[0]
    assert usable(issued)


@pytest.mark.parametrize("page", ["", "add/", "{pk}/change/", "{pk}/delete/", "{pk}/revoke/", "{pk}/history/"])
def test_staff_without_permission_see_nothing(issued: tokens.Issued, page: str):
    assert staff().get(TOKENS + page.format(pk=issued.token.pk)).status_code == 403


def test_a_viewer_may_read_and_nothing_else(issued: tokens.Issued):
    client = staff("view_apitoken")
    assert "host-7" in text_of(client.get(f"{TOKENS}{issued.token.pk}/change/"))
    for page in ("add/", f"{issued.token.pk}/change/", f"{issued.token.pk}/delete/"):
        assert client.post(TOKENS + page, {"name": "x", "post": "yes"}).status_code == 403
    assert ApiToken.objects.get().name == "host-7"
