"""What the settings refuse by now can be disabled and edited all the same; it cannot be enabled."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from reportqueue import outbox
from reportqueue.models import AlertRule, WebhookSubscription
from tests.conftest import ClientFactory
from tests.outbox.conftest import Subscribe

pytestmark = pytest.mark.django_db(transaction=True)
SUBSCRIPTIONS, RULES = "/admin/reportqueue/webhooksubscription/", "/admin/reportqueue/alertrule/"
OF_RULE = {
    "name": "ops",
    "condition": "failed",
    "in_a_row": "3",
    "waited_seconds": "900",
    "quiet_seconds": "3600",
    "channels": "ops-slack",
}


@pytest.fixture
def refused(subscribe: Subscribe, settings: Any) -> WebhookSubscription:
    """An enabled subscription with an address that is not allowed any more."""
    made = subscribe()
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_ALLOW_HTTP": False, "WEBHOOK_ALLOWED_NETWORKS": []}
    return made


@pytest.fixture
def unknown(settings: Any) -> AlertRule:
    """An enabled rule with a channel that is not in the settings any more."""
    before = settings.REPORTQUEUE
    settings.REPORTQUEUE = {**before, "ALERT_CHANNELS": {"ops-slack": "json://localhost"}}
    made = AlertRule(name="ops", condition="failed", channels=["ops-slack"])
    made.save()
    settings.REPORTQUEUE = before
    return made


def form_of(one: WebhookSubscription, **fields: str) -> dict[str, Any]:
    return {"url": one.url, "description": one.description, "event_types": one.event_types, **fields}


def test_a_subscription_is_disabled_over_the_api_and_enabled_only_with_an_address_that_is_allowed(
    refused: WebhookSubscription, client_with: ClientFactory
):
    client, address = client_with("change_webhooksubscription"), f"/api/webhook-subscriptions/{refused.pk}/"
    for body in ({"description": "old"}, {"enabled": False}, {"enabled": False, "url": refused.url}):
        answer = client.patch(address, body, format="json")
        assert (answer.status_code, body) == (200, body)
    refused.refresh_from_db()
    assert (refused.enabled, refused.description) == (False, "old")
    for body in ({"enabled": True}, {"url": f"{refused.url}other"}, {"url": f"{refused.url}other", "enabled": False}):
        answer = client.patch(address, body, format="json")
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["url"]), body
    assert client.patch(address, {"enabled": True, "url": "https://example.com/"}, format="json").status_code == 200


def test_a_subscription_is_disabled_in_the_admin_and_enabled_only_with_an_address_that_is_allowed(
    refused: WebhookSubscription, admin_client: Client
):
    page = f"{SUBSCRIPTIONS}{refused.pk}/change/"
    assert admin_client.post(page, form_of(refused, enabled="on", description="old")).status_code == 302
    assert admin_client.post(page, form_of(refused)).status_code == 302
    refused.refresh_from_db()
    assert not refused.enabled
    assert "url" in admin_client.post(page, form_of(refused, enabled="on")).context["adminform"].form.errors
    other = form_of(refused, url=f"{refused.url}other")
    assert "url" in admin_client.post(page, other).context["adminform"].form.errors


def test_its_secret_can_be_rotated(refused: WebhookSubscription):
    before = outbox.secret(refused)
    assert outbox.rotate(refused.pk) != before


def test_an_alert_rule_is_disabled_over_the_api_and_enabled_only_with_channels_that_are_known(
    unknown: AlertRule, client_with: ClientFactory
):
    client, address = client_with("change_alertrule"), f"/api/alert-rules/{unknown.pk}/"
    for body in ({"quiet_seconds": 60}, {"enabled": False}, {"enabled": False, "channels": ["ops-slack"]}):
        assert client.patch(address, body, format="json").status_code == 200, body
    unknown.refresh_from_db()
    assert (unknown.enabled, unknown.quiet_seconds) == (False, 60)
    for body in ({"enabled": True}, {"channels": ["ops-slack", "other"]}):
        answer = client.patch(address, body, format="json")
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["channels"]), body


def test_an_alert_rule_is_disabled_in_the_admin(unknown: AlertRule, admin_client: Client):
    assert admin_client.post(f"{RULES}{unknown.pk}/change/", OF_RULE).status_code == 302
    unknown.refresh_from_db()
    assert not unknown.enabled
    answer = admin_client.post(f"{RULES}{unknown.pk}/change/", {**OF_RULE, "enabled": "on"})
    assert "channels" in answer.context["adminform"].form.errors


def test_new_ones_are_refused(refused: WebhookSubscription, unknown: AlertRule):
    for enabled in (True, False):
        with pytest.raises(ValidationError, match="url"):
            WebhookSubscription(url=refused.url, event_types=["report.failed"], enabled=enabled).save()
        with pytest.raises(ValidationError, match="channels"):
            AlertRule(name="other", condition="failed", channels=["ops-slack"], enabled=enabled).save()
