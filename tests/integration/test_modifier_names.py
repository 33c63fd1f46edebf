"""`MODIFIER_MODEL`: modifiers by their names in the admin and in commands. Here they are groups of users."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import Client

from reportqueue import bounds, modifiers
from reportqueue.checks import check_settings
from reportqueue.models import ReportQueue
from tests.conftest import build_row, build_schedule
from tests.integration.test_admin_permissions import staff, text_of

pytestmark = pytest.mark.django_db
QUEUE, SCHEDULES = "/admin/reportqueue/reportqueue/", "/admin/reportqueue/reportschedule/"
SUGGESTIONS = f"{QUEUE}modifiers/"


@pytest.fixture(autouse=True)
def _named(settings: Any) -> None:
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "MODIFIER_MODEL": "auth.Group"}


@pytest.fixture
def acme() -> Group:
    return Group.objects.create(pk=17, name="Acme <b>Ltd</b>")


@pytest.fixture
def keeper() -> Client:
    client = staff(
        *("view_reportqueue", "add_reportqueue", "view_reportschedule", "add_reportschedule"),
        *("change_reportschedule", "view_webhooksource", "add_webhooksource"),
    )
    user = User.objects.get(pk=client.session["_auth_user_id"])
    user.user_permissions.add(Permission.objects.get(codename="view_group"))
    return client


def test_lists_and_pages_show_the_name_beside_the_number(keeper: Client, acme: Group):
    row = build_row(modifier_id=17)
    build_row(modifier_id=18)
    schedule = build_schedule(modifier_id=17)
    schedule.save()
    shown = 'Acme &lt;b&gt;Ltd&lt;/b&gt;<span class="rq-below">17</span>'
    for page in (QUEUE, f"{QUEUE}{row.pk}/change/", SCHEDULES):
        assert shown in keeper.get(page).content.decode(), page
    assert ">18</a>" in keeper.get(QUEUE).content.decode()


def test_a_page_of_the_list_looks_all_names_up_at_once(
    keeper: Client, acme: Group, django_assert_max_num_queries: Callable[..., Any]
):
    for pk in range(17, 60):
        build_row(modifier_id=pk)
    with django_assert_max_num_queries(60) as of_many:
        keeper.get(QUEUE)
    ReportQueue.objects.exclude(modifier_id=17).delete()
    with django_assert_max_num_queries(60) as of_one:
        keeper.get(QUEUE)
    assert len(of_many) == len(of_one)


def test_commands_show_the_name(acme: Group):
    row = build_row(modifier_id=17)
    for arguments in (["list"], ["show", str(row.pk)]):
        out = StringIO()
        call_command("report_queue", *arguments, stdout=out)
        assert "modifier Acme <b>Ltd</b> (17)" in out.getvalue()


def test_a_search_finds_rows_and_schedules_by_a_part_of_the_name(keeper: Client, acme: Group):
    row, schedule = build_row(modifier_id=17), build_schedule(modifier_id=17)
    schedule.save()
    build_row(modifier_id=18)
    for page, found in ((QUEUE, row), (SCHEDULES, schedule)):
        listed = keeper.get(page, {"q": "modifier:acme"}).context["cl"].result_list
        assert [one.pk for one in listed] == [found.pk]
    nobody = keeper.get(QUEUE, {"q": "modifier:umbrella"})
    assert not nobody.context["cl"].result_list
    assert "neither a modifier&#x27;s number" in nobody.content.decode()


def test_a_person_who_may_not_see_the_modifiers_finds_none_by_name(acme: Group):
    build_row(modifier_id=17)
    viewer = staff("view_reportqueue")
    assert not viewer.get(QUEUE, {"q": "modifier:acme"}).context["cl"].result_list
    assert viewer.get(QUEUE, {"q": "modifier:17"}).context["cl"].result_list
    assert viewer.get(SUGGESTIONS, {"q": "acme"}).status_code == 403


def test_suggestions_are_few_and_need_a_login(keeper: Client, acme: Group):
    Group.objects.bulk_create(Group(pk=100 + n, name=f"Acme branch {n}") for n in range(50))
    answer = keeper.get(SUGGESTIONS, {"q": "acme ltd"}).json()
    assert answer == {"results": [{"id": 17, "name": "Acme <b>Ltd</b>"}]}
    assert len(keeper.get(SUGGESTIONS, {"q": "acme"}).json()["results"]) == 20
    assert keeper.get(SUGGESTIONS, {"q": "\x00" + "x" * 5_000}).json() == {"results": []}
    assert keeper.post(SUGGESTIONS).status_code == 405
    assert Client().get(SUGGESTIONS, {"q": "acme"}).status_code == 302


@pytest.mark.parametrize(
    "page", [f"{QUEUE}enqueue/?report_id=1", f"{SCHEDULES}add/", "/admin/reportqueue/webhooksource/add/"]
)
def test_forms_suggest_modifiers_and_accept_any_number(keeper: Client, acme: Group, page: str):
    text = keeper.get(page).content.decode()
    assert f'data-suggestions="{SUGGESTIONS}"' in text
    assert "reportqueue/suggest.js" in text


def test_a_form_shows_the_name_of_the_number_in_it(keeper: Client, acme: Group):
    row = build_row(modifier_id=17)
    assert "Acme &lt;b&gt;Ltd" in text_of(keeper.get(f"{QUEUE}enqueue/?copy_of={row.pk}"))
    given = {"report_id": "1", "params": "{}", "params_of": ""}
    refused = keeper.post(f"{QUEUE}enqueue/", {**given, "modifier_id": "acme"})
    assert refused.context["form"].errors["modifier_id"] == ["Enter a whole number."]
    done = keeper.post(f"{QUEUE}enqueue/", {**given, "modifier_id": "17"}, follow=True)
    assert "modifier Acme &lt;b&gt;Ltd&lt;/b&gt; (17)" in done.content.decode()
    unknown = keeper.post(f"{QUEUE}enqueue/", {**given, "modifier_id": "99"}, follow=True)
    assert "modifier 99" in unknown.content.decode()


def test_without_the_setting_forms_take_numbers(keeper: Client, settings: Any):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "MODIFIER_MODEL": ""}
    assert "data-suggestions" not in keeper.get(f"{QUEUE}enqueue/").content.decode()
    assert keeper.get(SUGGESTIONS).status_code == 403


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("crm.Customer", "does not exist"),
        ("auth.Nobody", "does not exist"),
        ("sessions.Session", "no whole number"),
        ("Customer", "app_label.Model"),
        (7, "app_label.Model"),
    ],
)
def test_a_model_that_cannot_be_is_refused_by_check(settings: Any, name: Any, problem: str):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "MODIFIER_MODEL": name}
    (found,) = check_settings(None)
    assert found.id == "reportqueue.E001"
    assert "MODIFIER_MODEL" in found.msg
    assert problem in found.msg
    with pytest.raises(ImproperlyConfigured):
        modifiers.model()


def test_a_long_name_is_cut(acme: Group):
    acme.name = "x" * 150
    acme.save()
    assert modifiers.names([17, bounds.MAX_ID]) == {17: "x" * 150}
