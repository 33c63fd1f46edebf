"""Subscriptions and deliveries in the admin and over the API: secrets once, permissions, audit, tests."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from reportqueue import outbox
from reportqueue.models import AuditEntry, EventDelivery, WebhookSubscription
from tests.outbox.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = "/admin/reportqueue/webhooksubscription/"
DELIVERIES = "/admin/reportqueue/eventdelivery/"
FORM = {"url": "https://example.com/hook", "description": "the shop", "enabled": "on", "event_types": "report.failed"}


@pytest.fixture
def page_of(client: Client) -> Any:
    """A client of a person with just these permissions."""

    def make(*codenames: str) -> Client:
        person = User.objects.create_user("anna", is_staff=True)
        person.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(person)
        return client

    return make


def test_a_secret_is_shown_once_and_signs(admin_client: Client, receiver: Receiver):
    page = admin_client.post(f"{PAGES}add/", {**FORM, "url": receiver.url, "report_ids": "7, 3,7"}, follow=True)
    (secret,) = set(re.findall(r"whsec_[\w+/=]+", page.content.decode()))
    one = WebhookSubscription.objects.get()
    assert (one.report_ids, one.event_types, secret) == ([3, 7], ["report.failed"], outbox.secret(one))
    assert "whsec_" not in admin_client.get(f"{PAGES}{one.pk}/change/").content.decode()
    admin_client.post(f"{PAGES}{one.pk}/test/")
    receiver.secrets.append(secret)
    assert outbox.deliver_for(5) == 1
    assert (receiver.accepted[0].payload["type"], receiver.refused) == ("webhook.test", [])
    shown = admin_client.get(f"{DELIVERIES}{EventDelivery.objects.get().pk}/change/").content.decode()
    assert "thank you" in shown
    again = admin_client.post(f"{PAGES}{one.pk}/rotate/", follow=True).content.decode()
    (rotated,) = set(re.findall(r"whsec_[\w+/=]+", again))
    assert rotated != secret
    assert Webhook(rotated)
    told = list(AuditEntry.objects.filter(kind="subscriber").order_by("id").values_list("action", "by"))
    assert told == [("add", "admin"), ("test", "admin"), ("rotate", "admin")]
    assert "whsec" not in str(list(AuditEntry.objects.values()))
    assert one.seed not in str(list(AuditEntry.objects.values()))


def test_the_form_refuses_what_is_wrong_and_names_it(admin_client: Client):
    for field, value in {"url": "https://127.0.0.2.:x/", "report_ids": "one", "event_types": "report.made"}.items():
        page = admin_client.post(f"{PAGES}add/", {**FORM, field: value})
        assert page.context["errors"], field
    assert not WebhookSubscription.objects.exists()


def test_an_edit_in_the_admin_keeps_what_the_deliverer_has_written(admin_client: Client, subscribe):
    one = subscribe()
    WebhookSubscription.objects.update(failures=4)
    admin_client.post(f"{PAGES}{one.pk}/change/", {**FORM, "url": one.url, "description": "other"})
    one.refresh_from_db()
    assert (one.description, one.failures) == ("other", 4)


def test_the_log_and_the_audit_do_not_name_the_path_of_an_address(subscribe, caplog: pytest.LogCaptureFixture):
    one = subscribe(url="http://127.0.0.1:9/hook/secret?token=secret", description="")
    one.url = "http://127.0.0.1:9/hook/another-secret"
    one.save(update_fields=["url"])
    WebhookSubscription.objects.update(failing_since=timezone.now() - timedelta(days=9))
    outbox.send_test(one.pk)
    outbox.deliver_for(1)
    assert "is disabled" in caplog.text
    one.delete()
    entries = list(AuditEntry.objects.order_by("id").values("action", "label", "changes"))
    assert [entry["action"] for entry in entries] == ["add", "change", "test", "disable", "delete"]
    assert entries[1]["changes"]["url"] == ["http://127.0.0.1:9/…", "http://127.0.0.1:9/…"]
    assert "secret" not in f"{entries}{caplog.text}"


def test_each_button_needs_its_permission(page_of, subscribe):
    one = subscribe()
    made = outbox.send_test(one.pk)
    EventDelivery.objects.update(status="dead", finished_at=timezone.now())
    client = page_of("view_webhooksubscription", "view_eventdelivery")
    for address in (f"{PAGES}{one.pk}/test/", f"{PAGES}{one.pk}/rotate/", f"{DELIVERIES}{made.pk}/redeliver/"):
        assert client.post(address).status_code == 403
        assert client.get(address).status_code == 405
    assert "Send again" not in client.get(f"{DELIVERIES}{made.pk}/change/").content.decode()
    User.objects.get(username="anna").user_permissions.add(Permission.objects.get(codename="redeliver_eventdelivery"))
    assert "Send again" in client.get(f"{DELIVERIES}{made.pk}/change/").content.decode()
    client.post(f"{DELIVERIES}{made.pk}/redeliver/")
    assert EventDelivery.objects.get().status == "pending"
    assert AuditEntry.objects.filter(kind="delivery", action="redeliver", by="anna").count() == 1


def test_the_list_of_what_was_given_up_is_sent_again_by_its_action(admin_client: Client, subscribe, receiver: Receiver):
    one = subscribe()
    for _ in range(3):
        outbox.send_test(one.pk)
    EventDelivery.objects.update(status="dead", finished_at=timezone.now())
    page = admin_client.get(f"{DELIVERIES}?status=dead&subscription={one.pk}")
    assert page.status_code == 200
    chosen = [row.pk for row in page.context["cl"].result_list]
    assert len(chosen) == 3
    admin_client.post(f"{DELIVERIES}?status=dead", {"action": "redeliver_selected", "_selected_action": chosen})
    assert outbox.deliver_for(5) == 3
    found = admin_client.get(f"{DELIVERIES}?q={receiver.accepted[0].message_id}")
    assert len(found.context["cl"].result_list) == 1
    assert admin_client.get(f"{DELIVERIES}?q=row:17").status_code == 200


def test_the_api_adds_tests_rotates_and_tells(client_with, receiver: Receiver):
    api = client_with(
        "add_webhooksubscription", "change_webhooksubscription", "view_eventdelivery", "redeliver_eventdelivery"
    )
    made = api.post(
        "/api/webhook-subscriptions/",
        {"url": receiver.url, "event_types": ["report.failed", "report.late"], "report_ids": [3]},
        format="json",
    ).json()
    receiver.secrets.append(made["secret"])
    address = f"/api/webhook-subscriptions/{made['subscription_id']}/"
    tested = api.post(f"{address}test/", {}, format="json").json()
    assert outbox.deliver_for(5) == 1
    shown = api.get(f"/api/webhook-deliveries/{tested['delivery_id']}/").json()
    assert (shown["status"], shown["log"][0]["status_code"], receiver.refused) == ("delivered", 200, [])
    assert shown["webhook_id"] == receiver.accepted[0].message_id
    listed = api.get("/api/webhook-deliveries/?status=delivered").json()["deliveries"]
    assert [one["delivery_id"] for one in listed] == [tested["delivery_id"]]
    assert api.post(f"/api/webhook-deliveries/{tested['delivery_id']}/redeliver/", {}, format="json").status_code == 202
    again = api.post(f"/api/webhook-deliveries/{tested['delivery_id']}/redeliver/", {}, format="json")
    assert (again.status_code, again.json()["type"]) == (409, "delivery-refused")
    rotated = api.post(f"{address}rotate/", {}, format="json").json()
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_until"]
    api.patch(address, {"enabled": False}, format="json")
    assert api.post(f"{address}test/", {}, format="json").status_code == 409


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "https://10.0.0.1/"),
        ("event_types", []),
        ("event_types", ["webhook.test"]),
        ("event_types", ["report.failed"] * 100),
        ("report_ids", [-1]),
        ("report_ids", list(range(101))),
        ("description", "x" * 201),
        ("seed", "mine"),
        ("failures", 3),
    ],
)
def test_the_api_refuses_what_is_out_of_bounds_and_names_it(client_with, field: str, value: Any):
    api = client_with("add_webhooksubscription")
    body = {"url": "https://example.com/", "event_types": ["report.failed"], field: value}
    answer = api.post("/api/webhook-subscriptions/", body, format="json")
    assert answer.status_code == 400
    assert any(name.startswith(field) for name in answer.json()["errors"])
