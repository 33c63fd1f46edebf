"""Each page of the app in the admin says what is paused, once, and nothing else keeps the warning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.test import Client

from reportqueue import bulk, outbox, queue, tokens
from reportqueue.models import (
    AlertRule,
    AuditEntry,
    BlackoutCalendar,
    Pause,
    Report,
    WebhookSource,
    WebhookSubscription,
)
from tests.conftest import build_row, build_schedule
from tests.integration.test_admin_permissions import QUEUE, staff, text_of

pytestmark = pytest.mark.django_db
SAID = '<li class="rq-standing rq-pause warning">'
APP = "/admin/reportqueue/"
NO_PAGES = {"modifiers", "preview", "events", "changed", "export", "bulk"}
"""What answers with JSON, the frame below a form, whose page says it already, and a page that needs to know of what."""


@pytest.fixture
def objects(admin_user: Any) -> dict[str, Any]:
    """An object of each model that has an admin, and a pause."""
    schedule = build_schedule()
    Report(report_id=7, name="Weather").save()
    subscription = WebhookSubscription.objects.create(url="https://example.com/", event_types=["report.failed"])
    return {
        "reportqueue": build_row(schedule=schedule).pk,
        "reportschedule": schedule.pk,
        "report": 7,
        "blackoutcalendar": BlackoutCalendar.objects.create(name="holidays").pk,
        "webhooksource": WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2).pk,
        "alertrule": AlertRule.objects.create(name="desk", condition="late", emails=["desk@example.com"]).pk,
        "webhooksubscription": subscription.pk,
        "eventdelivery": outbox.send_test(subscription.pk).pk,
        "apitoken": tokens.issue(admin_user, name="test").token.pk,
        "pause": queue.pause(by="ana").pk,
        "auditentry": AuditEntry.objects.latest("id").pk,
        "bulkaction": bulk.start("cancel", {"status": ["queued"]}).pk,
    }


def addresses(objects: dict[str, Any]) -> Iterator[str]:
    """The address of each page of the app's model admins."""
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label != "reportqueue":
            continue
        key = objects[model._meta.model_name]
        for pattern in model_admin.urls:
            route = str(pattern.pattern)
            for part in ("<path:object_id>", "<int:pk>"):
                route = route.replace(part, str(key))
            if NO_PAGES.isdisjoint(route.split("/")):
                yield f"{APP}{model._meta.model_name}/{route}"


def test_every_page_says_it_once(admin_client: Client, objects: dict[str, Any]):
    pages = []
    for address in addresses(objects):
        response = admin_client.get(address)
        if response.status_code == 405:
            continue  # an operation
        if response.status_code == 302:
            assert not _kept(admin_client), address
            continue
        assert response.status_code in (200, 400, 403, 404), address
        if response.status_code == 200:
            pages.append(address)
    names = {page.removeprefix(APP).rstrip("/").rpartition("/")[2] for page in pages}
    assert {"add", "change", "delete", "history", "enqueue", "backfill", "reportqueue"} <= names
    for page in pages:
        assert text_of(admin_client.get(page)).count(SAID) == 1, page


def _kept(client: Client) -> list[str]:
    response = client.get("/admin/jsi18n/")
    return [str(one) for one in get_messages(response.wsgi_request)]


def test_a_page_that_answers_a_post_says_it(admin_client: Client, objects: dict[str, Any]):
    assert text_of(admin_client.post(f"{APP}report/add/", {})).count(SAID) == 1
    rows = [build_row() for _ in range(20)]
    chosen = {"action": "cancel_selected", "_selected_action": [row.pk for row in rows]}
    assert text_of(admin_client.post(QUEUE, chosen)).count(SAID) == 1


def test_what_is_no_page_leaves_no_warning_behind(admin_client: Client, objects: dict[str, Any]):
    frame = text_of(admin_client.get(f"{APP}reportschedule/{objects['reportschedule']}/preview/"))
    assert SAID not in frame
    admin_client.get(f"{QUEUE}modifiers/?q=a")
    admin_client.get(f"{QUEUE}{objects['reportqueue']}/")  # redirects to its page
    assert _kept(admin_client) == []


def test_other_messages_are_kept(admin_client: Client, objects: dict[str, Any]):
    response = admin_client.post(f"{QUEUE}{objects['reportqueue']}/cancel/", follow=True)
    said = [str(one) for one in response.context["messages"]]
    assert [one.split(" since")[0] for one in said] == ["1 report cancelled.", "The queue is paused"]


def test_the_form_explains_its_fields_and_finds_reports_by_name(admin_client: Client, objects: dict[str, Any]):
    page = text_of(admin_client.get(f"{APP}pause/add/"))
    assert '<datalist id="report_id-reports"><option value="7">Weather</option></datalist>' in page
    assert "Type a part of its name to find it." in page
    assert "Nothing of it is claimed until it is resumed." in page


def test_a_second_pause_and_a_route_that_nobody_knows_are_told(admin_client: Client, objects: dict[str, Any]):
    def said(**fields: str) -> list[str]:
        response = admin_client.post(f"{APP}pause/add/", fields, follow=True)
        return [str(one) for one in response.context["messages"]]

    refused = text_of(admin_client.post(f"{APP}pause/add/", {"scope": "queue", "note": "again"}))
    assert re.search(
        r'<ul class="errorlist nonfield"[^>]*><li>It was paused already: The queue is paused since', refused
    )
    assert Pause.objects.get().paused_by == "ana"
    assert any("has the route 'fin'. Is it written correctly?" in one for one in said(scope="route", route="fin"))
    queue.pause(report_id=7, by="ben")
    response = admin_client.post(f"{APP}report/7/pause/", follow=True)
    assert any("It was paused already: Report Weather (7)" in str(one) for one in response.context["messages"])


def test_pauses_are_resumed_from_their_list_in_words_of_their_own(admin_client: Client, objects: dict[str, Any]):
    other = queue.pause(report_id=7, by="ben")
    pauses = f"{APP}pause/"
    page = text_of(admin_client.get(pauses))
    assert re.findall(r'<option value="(\w+)">([^<]+)<', page) == [("resume_selected", "Resume the selected")]
    chosen = {"action": "resume_selected", "_selected_action": [objects["pause"], other.pk]}
    response = admin_client.post(pauses, chosen, follow=True)
    assert "2 pauses ended." in [str(one) for one in response.context["messages"]]
    assert not Pause.objects.exists()
    entries = AuditEntry.objects.filter(kind="pause").order_by("-pk")[:2]
    assert [one.action for one in entries] == ["resume", "resume"]
    admin_client.post(pauses, chosen)
    assert not AuditEntry.objects.filter(kind="pause", pk__gt=entries[0].pk).exists()


def test_only_who_may_pause_may_resume_from_the_list(objects: dict[str, Any]):
    viewer = staff("view_reportqueue")
    assert "resume_selected" not in text_of(viewer.get(f"{APP}pause/"))
    viewer.post(f"{APP}pause/", {"action": "resume_selected", "_selected_action": [objects["pause"]]})
    assert Pause.objects.exists()


def test_who_is_not_logged_in_is_told_nothing(client: Client, objects: dict[str, Any]):
    response = client.get(QUEUE)
    assert response.status_code == 302
    assert SAID not in text_of(client.get(response["Location"]))
    assert Pause.objects.count() == 1
