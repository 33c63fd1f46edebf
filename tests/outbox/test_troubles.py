"""What is wrong with webhooks and alerts is shown where people look first: the overview, `/status` and the terminal."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reportqueue import moving, overview
from reportqueue.models import AlertRule, EventDelivery, OutboxEvent, WebhookSubscription
from reportqueue.outbox import troubles
from tests.conftest import minutes_ago
from tests.integration.test_admin_permissions import staff, text_of

pytestmark = pytest.mark.django_db
PAGE = "/admin/reportqueue/"
DAY = 24 * 60
OF_ALL = ["Webhook subscriptions that were disabled by their failures: 1."]
OF_ALL += [
    "Webhook deliveries that were given up in the last 3 days: 2.",
    "Alert rules whose messages cannot be sent: 1.",
]


def given_up(to: WebhookSubscription, minutes: float) -> EventDelivery:
    event = OutboxEvent.objects.create(type="report.failed", subject="row:1")
    return EventDelivery.objects.create(
        event=event, subscription=to, status="dead", finished_at=minutes_ago(minutes), attempts=9
    )


def add_rule(name: str, **fields: Any) -> AlertRule:
    made = AlertRule(name=name, condition="failed", emails=["desk@example.com"])
    made.save()
    AlertRule.objects.filter(pk=made.pk).update(**fields)
    return made


@pytest.fixture
def wrong(subscribe) -> dict[str, set[int]]:
    """One of each trouble and more that look alike; what the lists are to show, by their model."""
    failed, by_person, fine = subscribe(), subscribe(), subscribe()
    WebhookSubscription.objects.filter(pk=failed.pk).update(enabled=False, disabled_reason="All attempts have failed")
    WebhookSubscription.objects.filter(pk=by_person.pk).update(enabled=False)
    lost = {given_up(fine, minutes).pk for minutes in (1, 3 * DAY - 5)}
    given_up(fine, 3 * DAY + 5)
    EventDelivery.objects.create(event=OutboxEvent.objects.latest("pk"), subscription=failed)
    mute = add_rule("mute", problem="SMTPException: away")
    add_rule("fine")
    add_rule("switched off", problem="SMTPException: away", enabled=False)
    return {"webhooksubscription": {failed.pk}, "eventdelivery": lost, "alertrule": {mute.pk}}


def links(page: Any) -> list[str]:
    """The lists that the overview's section of what is wrong leads to."""
    section = re.search(r'<section aria-labelledby="rq-troubles".*?</section>', page.content.decode(), re.DOTALL)
    return [one.replace("&amp;", "&") for one in re.findall(r'href="([^"]+)"', section[0])] if section else []


def test_the_overview_counts_what_is_wrong_and_leads_to_lists_of_just_that(wrong, admin_client: Client):
    page = admin_client.get(PAGE)
    text = text_of(page)
    assert "1 webhook subscription was disabled by its failures." in text
    assert "2 webhook deliveries were given up in the last 3 days." in text
    assert "The messages of 1 alert rule cannot be sent." in text
    shown = {
        address.split("/")[3]: {one.pk for one in admin_client.get(address).context["cl"].result_list}
        for address in links(page)
    }
    assert shown == wrong


def test_the_counts_are_for_everybody_and_the_lists_for_those_who_may_see_them(wrong):
    page = staff("view_reportqueue", "view_eventdelivery").get(PAGE)
    assert "1 webhook subscription was disabled" in text_of(page)
    assert [address.split("/")[3] for address in links(page)] == ["eventdelivery"]


def test_status_and_the_command_tell_of_it_as_of_what_stops_nothing_else(wrong, client: Client):
    told = client.get("/status").json()
    assert [text for text in told["warnings"] if text in OF_ALL] == OF_ALL
    assert (told["status"], told["reasons"]) == ("moving", [])
    assert set(troubles.OutboxTrouble) & told.keys() == set()
    out = StringIO()
    call_command("report_queue", "status", stdout=out)
    assert [line for line in out.getvalue().splitlines() if line.startswith("! ")] == [f"! {text}" for text in OF_ALL]


def test_there_is_nothing_to_tell_of_once_people_have_seen_to_it(wrong, admin_client: Client):
    WebhookSubscription.objects.filter(enabled=False).delete()
    EventDelivery.objects.filter(status="dead").update(status="pending", finished_at=None)
    AlertRule.objects.update(problem="")
    assert moving.state(5).warnings == []
    assert overview.overview().sending == {}
    assert "What is wrong" not in text_of(admin_client.get(PAGE))


def test_it_is_counted_up_to_a_bound(subscribe, monkeypatch: pytest.MonkeyPatch):
    for module in (moving, overview):
        monkeypatch.setattr(module, "COUNTED", 2)
    one = subscribe()
    for _ in range(4):
        given_up(one, 1)
    assert overview.overview().sending == {troubles.OutboxTrouble.GIVEN_UP: 2}
    assert moving.state(5).warnings == ["Webhook deliveries that were given up in the last 3 days: 2 or more."]


def test_deliveries_are_counted_by_an_index_of_those_that_were_given_up(subscribe, client: Client):
    given_up(subscribe(), 1)
    with CaptureQueriesContext(connection) as seen:
        client.get("/status")
    (statement,) = [one["sql"] for one in seen.captured_queries if "reportqueue_eventdelivery" in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "reportqueue_delivery_given_up" in plan, plan


def test_the_page_is_german(wrong, admin_client: Client, settings: Any):
    settings.LANGUAGE_CODE = "de"
    text = text_of(admin_client.get(PAGE))
    assert "1 Webhook-Abonnement wurde wegen seiner Fehler deaktiviert." in text
    assert "2 Webhook-Zustellungen wurden in den letzten 3 Tagen aufgegeben." in text
    assert "Die Nachrichten von 1 Alarmregel können nicht gesendet werden." in text
