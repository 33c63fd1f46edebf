"""`manage.py create_consumer`: the user, just the permissions that are needed, and a token that is printed once."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from reportqueue import api_users, tokens
from reportqueue.api.authentication import ApiTokenAuthentication
from reportqueue.clock import database_now
from reportqueue.conf import OWN_TOKENS, SESSIONS
from reportqueue.models import ApiToken
from reportqueue.patterns import Pattern
from tests.concurrency import at_once

pytestmark = pytest.mark.django_db
MIGRATION = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[str], str]:
    """The lines of the standard output, and all of the standard error."""
    call_command("create_consumer", *arguments)
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err


def permissions_of(name: str) -> set[str]:
    return {one.removeprefix("reportqueue.") for one in User.objects.get(username=name).get_all_permissions()}


def test_the_token_is_alone_on_the_standard_output(capsys: pytest.CaptureFixture[str]):
    (key,), said = run(capsys, "dagster")
    token = tokens.authenticate(key)
    assert (token.user.username, token.name, token.expires_at) == ("dagster", "consumer", None)
    assert not token.user.has_usable_password()
    assert not token.user.is_staff
    assert key not in said
    for part in ("The user dagster was created", "consume_reportqueue", f"rq_{token.identifier}", "no end"):
        assert part in said


def test_its_options_are_those_of_the_token(capsys: pytest.CaptureFixture[str]):
    (key,), said = run(capsys, "dagster", "--name", "host 7", "--expires", "90d")
    token = tokens.authenticate(key)
    assert token.name == "host 7"
    assert abs(token.expires_at - database_now() - timedelta(days=90)) < timedelta(minutes=1)
    assert f"{token.expires_at:%Y-%m-%d}" in said


def documented(pattern: Pattern) -> set[str]:
    """What docs/migration.md says that the user of this pattern needs, with the repair sensors."""
    (cell,) = re.findall(rf"^\| `{pattern}` \|[^|]*\|([^|]*)\|", MIGRATION, re.MULTILINE)
    return documented(Pattern.CRON) if "the same" in cell else set(re.findall(r"`(\w+)`", cell))


@pytest.mark.parametrize(
    ("options", "granted", "name"),
    [
        ([], set(api_users.ANY_CONSUMER), "consumer"),
        *[(["--pattern", pattern], documented(pattern), "consumer") for pattern in Pattern],
        (["--producer"], {"add_reportqueue"}, "producer"),
        (["--read-only"], {"view_reportqueue", "view_reportschedule"}, "reader"),
    ],
    ids=["any pattern", *Pattern, "producer", "read-only"],
)
def test_it_grants_what_is_needed_and_no_more(
    capsys: pytest.CaptureFixture[str], options: list[str], granted: set[str], name: str
):
    (key,), _ = run(capsys, "program", *options)
    assert permissions_of("program") == granted
    assert set(tokens.authenticate(key).scopes) == granted
    assert ApiToken.objects.get().name == name


def test_the_default_serves_every_pattern():
    assert set(api_users.ANY_CONSUMER) == {one for pattern in Pattern for one in documented(pattern)}


def test_repeated_it_adds_a_token_and_keeps_the_user(capsys: pytest.CaptureFixture[str]):
    (first,), _ = run(capsys, "dagster", "--pattern", "queue")
    (second,), said = run(capsys, "dagster")
    user = User.objects.get()
    assert "The user dagster exists" in said
    assert "Permissions granted: view_reportschedule." in said
    assert {tokens.authenticate(key).user for key in (first, second)} == {user}
    assert "view_reportschedule" not in tokens.authenticate(first).scopes


def test_an_existing_user_keeps_what_it_has(capsys: pytest.CaptureFixture[str]):
    user = User.objects.create_user("dagster", password="secret")
    user.user_permissions.add(Permission.objects.get(codename="requeue_reportqueue"))
    group = Group.objects.create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_reportqueue"))
    user.groups.add(group)
    (key,), said = run(capsys, "dagster", "--pattern", "queue")
    assert "Permissions granted: consume_reportqueue." in said, "a group has granted the other one"
    user = User.objects.get()
    assert user.has_usable_password()
    assert user.has_perm("reportqueue.requeue_reportqueue")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    assert client.post("/api/report-queue/7/requeue/", {}, format="json").status_code == 403


def test_a_superusers_token_is_one_for_this_purpose_alone(capsys: pytest.CaptureFixture[str]):
    User.objects.create_superuser("root")
    (key,), said = run(capsys, "root", "--read-only")
    assert "Permissions granted: none." in said
    assert not User.objects.get().user_permissions.exists()
    assert tokens.authenticate(key).scopes == ["view_reportqueue", "view_reportschedule"]


@pytest.mark.parametrize("there", [False, True])
def test_a_dry_run_says_it_and_changes_nothing(capsys: pytest.CaptureFixture[str], there: bool):
    if there:
        User.objects.create_user("dagster")
    out, said = run(capsys, "dagster", "--dry-run", "--expires", "2w")
    assert out == []
    assert f"The user dagster {'exists' if there else 'would be created'}." in said
    assert "would be granted: consume_reportqueue, view_reportqueue, view_reportschedule" in said
    assert "The token 'consumer' would be created" in said
    assert User.objects.count() == there
    assert not ApiToken.objects.exists()
    assert not Permission.objects.filter(user__username="dagster").exists()


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["a" * 151], "at most 150 characters", 1),
        (["a" * 1_001], "1 to 1,000 characters", 1),
        ([""], "1 to 1,000 characters", 1),
        (["a b"], "Enter a valid username", 1),
        (["a\x00"], "NUL", 1),
        (["\udcff"], "surrogates", 1),
        (["gone"], "not active", 1),
        (["dagster", "--name", ""], "name: This field cannot be blank", 1),
        (["dagster", "--name", "n" * 101], "at most 100 characters", 1),
        (["dagster", "--expires", "0d"], "longer than 0 s", 2),
        (["dagster", "--expires", "soon"], "not a duration", 1),
        (["dagster", "--pattern", "none"], "invalid choice", 1),
        (["dagster", "--producer", "--read-only"], "not allowed with", 1),
    ],
)
def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, code: int):
    User.objects.create_user("gone", is_active=False)
    with pytest.raises(CommandError) as error:
        call_command("create_consumer", *arguments)
    assert said in str(error.value)
    assert error.value.returncode == code
    assert capsys.readouterr().out == ""
    assert User.objects.count() == 1, "a user was left behind"
    assert not ApiToken.objects.exists()


class Ours(ApiTokenAuthentication):
    """A project's own class that accepts the app's tokens."""


ACCEPTED = [OWN_TOKENS, f"{__name__}.Ours"]


@pytest.mark.parametrize("accepted", ["", *ACCEPTED])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_token_that_the_api_would_not_accept_is_not_made(
    settings: Any, capsys: pytest.CaptureFixture[str], more: list[str], accepted: str
):
    settings.REPORTQUEUE = {"AUTHENTICATION_CLASSES": [SESSIONS, *filter(None, [accepted])]}
    if accepted:
        run(capsys, "dagster", *more)
        return
    with pytest.raises(CommandError, match=rf"AUTHENTICATION_CLASSES.*Add '{OWN_TOKENS}'"):
        run(capsys, "dagster", *more)
    assert capsys.readouterr().out == ""
    assert not User.objects.exists()
    assert not ApiToken.objects.exists()


def test_permissions_that_are_not_in_the_database_are_said_to_be_missing():
    Permission.objects.filter(codename="consume_reportqueue").delete()
    with pytest.raises(CommandError, match=r"manage\.py migrate"):
        call_command("create_consumer", "dagster")
    assert not User.objects.exists()


def test_a_user_model_without_permissions_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch):
    for model in User.__mro__:
        if "user_permissions" in vars(model):
            monkeypatch.delattr(model, "user_permissions")
    with pytest.raises(CommandError, match=r"auth\.User has no user_permissions: grant consume_reportqueue, "):
        call_command("create_consumer", "dagster")
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_calls_at_once_make_one_user():
    names: list[Any] = at_once([lambda: call_command("create_consumer", "dagster")] * 4)
    assert names == [None] * 4
    assert User.objects.count() == 1
    assert ApiToken.objects.count() == 4
