"""Signed deliveries become rows, once each; whoever cannot sign is told nothing and changes nothing."""

from __future__ import annotations

import html
import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.exceptions import ValidationError
from django.test import Client, override_settings
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer
from standardwebhooks import Webhook

from reportqueue import webhooks
from reportqueue.models import ReportQueue, WebhookSource
from reportqueue.states import Source, Status
from tests.concurrency import at_once
from tests.conftest import ClientFactory

PAYLOAD = {"type": "order.paid", "data": {"id": "o-7", "customer": {"id": 17}}}


@pytest.fixture
def source(db: None) -> WebhookSource:
    return make_source()


def make_source(**fields: Any) -> WebhookSource:
    given = {"name": "shop", "report_id": 3, "modifier_path": "data.customer.id", "params_paths": {"order": "data.id"}}
    made = WebhookSource(**(given | fields))
    made.full_clean()
    made.save()
    return made


def headers(
    secret: str, body: bytes, *, delivery: str = "msg_1", off: timedelta = timedelta(0), **replaced: str
) -> dict[str, str]:
    at = datetime.now(UTC) + off
    signed = {
        "webhook-id": delivery,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(delivery, at, body.decode()),
    }
    return signed | {name.replace("_", "-"): value for name, value in replaced.items()}


def deliver(source: WebhookSource, payload: Any = PAYLOAD, secret: str | None = None, **options: Any) -> Any:
    body = json.dumps(payload).encode()
    sent = headers(secret or webhooks.secret(source), body, **options)
    return Client().post(
        f"/api/webhooks/{source.name}/",
        body,
        content_type="application/json",
        headers={k: v for k, v in sent.items() if v},
    )


def test_a_signed_delivery_is_queued_with_what_its_payload_holds(source: WebhookSource):
    answer = deliver(source)
    assert answer.status_code == 201, answer.content
    row = ReportQueue.objects.get()
    assert answer.json() == {"queue_id": row.pk, "status": "queued"}
    assert (row.report_id, row.modifier_id, row.params) == (3, 17, {"order": "o-7"})
    assert (row.source, row.status, row.idempotency_key) == (Source.WEBHOOK, Status.QUEUED, "webhook:shop:msg_1")


def test_a_delivery_that_comes_again_is_answered_with_its_first_row(source: WebhookSource):
    first = deliver(source)
    again = deliver(source)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["queue_id"] == again.json()["queue_id"]
    assert ReportQueue.objects.count() == 1


@pytest.mark.parametrize(
    "edit",
    [
        {"priority": 5},
        {"max_attempts": 9},
        {"report_id": 4},
        {"modifier_path": "", "modifier_id": 99},
        {"modifier_path": "data.account"},
        {"params_paths": {"id": "data.id"}},
        {"params_paths": {"id": "no.longer.there"}},
    ],
    ids=str,
)
def test_a_delivery_that_comes_again_after_an_edit_of_its_source_is_answered_with_its_first_row(
    source: WebhookSource, edit: dict[str, Any]
):
    """Senders disable an endpoint that refuses their redeliveries."""
    first = deliver(source)
    WebhookSource.objects.update(**edit)
    again = deliver(source)
    assert (again.status_code, again.json()) == (200, first.json())
    assert ReportQueue.objects.count() == 1
    other = deliver(source, {**PAYLOAD, "type": "order.refunded"})
    assert (other.status_code, other.json()["type"]) == (409, "idempotency-key-reused")


@pytest.mark.parametrize(("written", "number"), [("17", 17), ("0", 0), ("9223372036854775807", 2**63 - 1)])
def test_a_modifier_may_be_in_quotes(source: WebhookSource, written: str, number: int):
    assert deliver(source, {"data": {"id": 1, "customer": {"id": written}}}).status_code == 201
    assert ReportQueue.objects.get().modifier_id == number


def test_a_name_with_dots_may_be_in_a_path(db: None):
    made = make_source(modifier_path=r"labels.app\.example\.com/id", params_paths={"key": r"a\\b"})
    assert deliver(made, {"labels": {"app.example.com/id": "7"}, r"a\b": "k"}).status_code == 201
    row = ReportQueue.objects.get()
    assert (row.modifier_id, row.params) == (7, {"key": "k"})


def test_an_id_that_is_known_with_another_payload_is_refused(source: WebhookSource):
    deliver(source)
    other = deliver(source, {"data": {"id": "o-8", "customer": {"id": 17}}})
    assert (other.status_code, other.json()["type"]) == (409, "idempotency-key-reused")
    assert ReportQueue.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_one_delivery_from_many_connections_at_once_is_one_row():
    source = make_source()
    answers = at_once([lambda: deliver(source).status_code] * 6)
    assert sorted(answers) == [200] * 5 + [201]
    assert ReportQueue.objects.count() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"secret": "whsec_" + "A" * 43 + "="}, "signature"),
        ({"webhook_signature": ""}, "lacks the header webhook-signature"),
        ({"webhook_id": ""}, "lacks the header webhook-id"),
        ({"webhook_timestamp": ""}, "lacks the header webhook-timestamp"),
        ({"webhook_signature": "v1"}, "signature"),
        ({"webhook_signature": "v1,%%%"}, "signature"),
        ({"webhook_signature": "v2,AAAA"}, "signature"),
        ({"webhook_timestamp": "soon"}, "signature"),
        ({"webhook_timestamp": "nan"}, "signature"),
        ({"webhook_id": "msg_2"}, "signature"),
        ({"off": timedelta(minutes=-6)}, "five minutes"),
        ({"off": timedelta(minutes=6)}, "five minutes"),
    ],
)
def test_what_is_not_signed_is_refused_and_changes_nothing(source: WebhookSource, options: dict[str, Any], said: str):
    answer = deliver(source, **options)
    assert (answer.status_code, answer.json()["type"]) == (401, "bad-signature")
    assert said in answer.json()["detail"]
    assert webhooks.secret(source) not in answer.content.decode()
    assert not ReportQueue.objects.exists()


def test_a_changed_body_is_refused(source: WebhookSource):
    body = json.dumps(PAYLOAD).encode()
    sent = headers(webhooks.secret(source), body)
    changed = body.replace(b"17", b"18")
    answer = Client().post("/api/webhooks/shop/", changed, content_type="application/json", headers=sent)
    assert answer.status_code == 401
    assert not ReportQueue.objects.exists()


@pytest.mark.parametrize("body", [b"\xff\xfe", b"", b"[", b"nonsense"])
def test_a_body_that_is_no_json_is_refused_without_a_server_error(source: WebhookSource, body: bytes):
    secret = webhooks.secret(source)
    sent = headers(secret, body if body != b"\xff\xfe" else b"")
    answer = Client().post("/api/webhooks/shop/", body, content_type="application/json", headers=sent)
    assert answer.status_code in (400, 401)
    assert not ReportQueue.objects.exists()


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"data": {"customer": {"id": 17}}}, "params.order"),
        ({"data": {"id": 1, "customer": {}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": "17a"}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": "017"}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": " 17"}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": "-1"}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": "\u0661"}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": "9223372036854775808"}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": 17.0}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": True}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": -1}}}, "modifier_id"),
        ({"data": {"id": 1, "customer": {"id": 2**63}}}, "modifier_id"),
        ({"data": {"id": "x" * 70_000, "customer": {"id": 1}}}, "params"),
        ({"data": {"id": "a\x00b", "customer": {"id": 1}}}, "params"),
        ([], "modifier_id"),
    ],
)
def test_a_payload_without_what_is_wanted_is_refused_naming_it(source: WebhookSource, payload: Any, field: str):
    answer = deliver(source, payload)
    assert (answer.status_code, answer.json()["type"]) == (400, "validation")
    assert field in answer.json()["errors"]
    assert not ReportQueue.objects.exists()


def test_too_long_a_delivery_id_is_refused(source: WebhookSource):
    assert deliver(source, delivery="m" * 141).json()["errors"].keys() == {"webhook-id"}


def test_too_large_a_body_is_refused_before_it_is_read(source: WebhookSource, settings: Any):
    settings.REPORTQUEUE = {"MAX_BODY_BYTES": 1024}
    assert deliver(source, {"data": "x" * 2000}).status_code == 413


def test_an_unknown_and_a_disabled_source_look_alike(source: WebhookSource):
    WebhookSource.objects.update(enabled=False)
    disabled = deliver(source)
    source.name = "other"
    unknown = deliver(source)
    assert (disabled.status_code, unknown.status_code) == (404, 404)
    assert disabled.json()["detail"].replace("shop", "other") == unknown.json()["detail"]


def test_the_whole_payload_may_be_a_parameter(db: None):
    made = make_source(modifier_path="", modifier_id=5, params_paths={"event": "$"})
    assert deliver(made).status_code == 201
    row = ReportQueue.objects.get()
    assert (row.modifier_id, row.params) == (5, {"event": PAYLOAD})


def test_the_database_holds_no_secret(source: WebhookSource):
    secret = webhooks.secret(source)
    stored = json.dumps(list(WebhookSource.objects.values()), default=str)
    assert secret.removeprefix("whsec_") not in stored
    with override_settings(SECRET_KEY="another"):
        assert webhooks.secret(source) != secret


def test_a_rotated_secret_is_accepted_beside_the_old_one_for_a_day(source: WebhookSource):
    old = webhooks.secret(source)
    new = webhooks.rotate(source)
    assert new != old
    assert deliver(source, secret=old, delivery="a").status_code == 201
    assert deliver(source, secret=new, delivery="b").status_code == 201
    WebhookSource.objects.update(previous_until=timezone.now() - timedelta(seconds=1))
    assert deliver(source, secret=old, delivery="c").status_code == 401
    assert deliver(source, secret=new, delivery="d").status_code == 201


def test_a_rotation_of_the_projects_key_keeps_the_secrets(source: WebhookSource, settings: Any):
    secret = webhooks.secret(source)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert deliver(source, secret=secret).status_code == 201


# The keys of deliveries are the source's own.


def test_no_api_user_can_use_up_the_id_of_a_delivery(source: WebhookSource, client_with: ClientFactory):
    api = client_with("add_reportqueue")
    taken = {"report_id": 9, "modifier_id": 9, "idempotency_key": "webhook:shop:msg_1"}
    assert api.post("/api/report-queue/", taken, format="json").status_code == 201
    answer = deliver(source)
    assert answer.status_code == 201, answer.content
    assert ReportQueue.objects.get(pk=answer.json()["queue_id"]).source == Source.WEBHOOK


def test_a_source_that_is_made_again_under_its_name_knows_no_earlier_delivery(source: WebhookSource):
    first = deliver(source)
    source.delete()
    again = deliver(make_source(report_id=4))
    assert (first.status_code, again.status_code) == (201, 201)
    assert ReportQueue.objects.get(pk=again.json()["queue_id"]).report_id == 4


# Before the body is read.


class Unread:
    """A body that never comes."""

    def read(self, *_: int) -> bytes:
        raise AssertionError("the body was read")

    readline = read


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("other", {}, 404),
        ("shop", {"webhook_signature": ""}, 401),
        ("shop", {"webhook_id": ""}, 401),
        ("shop", {"webhook_timestamp": ""}, 401),
        ("shop", {"webhook_signature": "v1"}, 401),
        ("shop", {"webhook_signature": "v1,AAAA"}, 401),
        ("shop", {"webhook_signature": "v1a,AAAA v2,AAAA"}, 401),
        ("shop", {"off": timedelta(minutes=-6)}, 401),
        ("shop", {"off": timedelta(minutes=6)}, 401),
    ],
)
def test_what_the_headers_tell_is_refused_before_the_body_is_read(
    source: WebhookSource, name: str, options: dict[str, Any], code: int
):
    sent = {k: v for k, v in headers(webhooks.secret(source), b"{}", **options).items() if v}
    unread: dict[str, Any] = {"wsgi.input": Unread(), "CONTENT_LENGTH": "2"}
    address = f"/api/webhooks/{name}/"
    answer = Client().post(address, b"{}", content_type="application/json", headers=sent, **unread)
    assert answer.status_code == code, answer.content


def test_a_body_that_is_said_to_be_too_large_is_not_read(source: WebhookSource):
    sent = headers(webhooks.secret(source), b"{}")
    unread: dict[str, Any] = {"wsgi.input": Unread(), "CONTENT_LENGTH": str(9 * 1024 * 1024)}
    answer = Client().post("/api/webhooks/shop/", b"{}", content_type="application/json", headers=sent, **unread)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("path", "code"), [("webhooks/nobody/", 404), ("report-queue/", 401), ("report-queue/claim/", 401)]
)
@pytest.mark.django_db(transaction=True)
def test_a_stranger_whose_body_does_not_come_is_answered_at_once(live_server: LiveServer, path: str, code: int):
    place = urlsplit(live_server.url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        lines = f"POST /api/{path} HTTP/1.1", f"Host: {place.netloc}", "Content-Type: application/json"
        connection.sendall("\r\n".join([*lines, "Content-Length: 1000", "", "{"]).encode())
        assert connection.recv(100).decode().split()[1] == str(code)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "no spaces"}, "name"),
        ({"modifier_path": ""}, "modifier_id"),
        ({"modifier_id": 4}, "modifier_id"),
        ({"modifier_path": "a..b"}, "modifier_path"),
        ({"modifier_path": r"a\b"}, "modifier_path"),
        ({"params_paths": {"a": "b\\"}}, "params_paths"),
        ({"params_paths": []}, "params_paths"),
        ({"params_paths": {"a": 1}}, "params_paths"),
        ({"params_paths": {"a": ".."}}, "params_paths"),
        ({"params_paths": {"a\0b": "a"}}, "params_paths"),
        ({"params_paths": {"\ud800": "a"}}, "params_paths"),
        ({"params_paths": {"a": "\udc00"}}, "params_paths"),
        ({"params_paths": {"x" * 70_000: "a"}}, "params_paths"),
        ({"params_paths": {str(n): "a" for n in range(51)}}, "params_paths"),
        ({"priority": 101}, "priority"),
        ({"report_id": -1}, "report_id"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused_naming_the_field(db: None, wrong: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as refusal:
        make_source(**wrong)
    assert field in refusal.value.message_dict


def test_the_admin_shows_a_secret_once_and_rotates_it(admin_client: Client):
    form = {"name": "shop", "enabled": "on", "report_id": "3", "modifier_id": "7", "params_paths": "{}"}
    form |= {"modifier_path": "", "priority": "0", "max_attempts": "3"}
    pages = "/admin/reportqueue/webhooksource/"
    made = admin_client.post(f"{pages}add/", form, follow=True)
    source = WebhookSource.objects.get()
    first = webhooks.secret(source)
    assert html.escape(first) in made.content.decode()
    for page in (pages, f"{pages}{source.pk}/change/"):
        assert html.escape(first) not in admin_client.get(page).content.decode()
    action = {"action": "rotate_secret", "_selected_action": [source.pk]}
    rotated = admin_client.post(pages, action, follow=True).content.decode()
    source.refresh_from_db()
    second = webhooks.secret(source)
    assert second != first
    assert html.escape(second) in rotated
    assert html.escape(second) not in admin_client.get(pages).content.decode()


def test_the_admin_rotates_one_secret_at_a_time(admin_client: Client):
    sources = [make_source(name=name) for name in ("a", "b")]
    before = [webhooks.secret(source) for source in sources]
    action = {"action": "rotate_secret", "_selected_action": [source.pk for source in sources]}
    assert (
        "Select one source"
        in admin_client.post("/admin/reportqueue/webhooksource/", action, follow=True).content.decode()
    )
    assert [webhooks.secret(source) for source in WebhookSource.objects.all()] == before


def test_a_source_without_a_modifier_is_refused_at_its_field_in_the_admin(admin_client: Client):
    form = {"name": "shop", "report_id": "3", "params_paths": "{}", "priority": "0", "max_attempts": "3"}
    answer = admin_client.post("/admin/reportqueue/webhooksource/add/", form)
    assert "one of the two" in answer.content.decode()
    assert not WebhookSource.objects.exists()
