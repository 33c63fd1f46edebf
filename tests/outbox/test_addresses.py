"""Where webhooks may not be sent: the networks of machines, whatever name or form leads there."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from reportqueue import addresses
from reportqueue.models import WebhookSubscription
from reportqueue.outbox import sending
from tests.outbox.receiver import Receiver

PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104  # no binding
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "240.0.0.1",
    "::1",
    "::",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "2002:a00:1::",
    "2001:0:a00:1::1",
]
PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.fixture
def _strict(settings: Any) -> None:
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_ALLOWED_NETWORKS": []}


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_a_network_of_machines_is_refused(address: str):
    with pytest.raises(addresses.Refused, match="WEBHOOK_ALLOWED_NETWORKS"):
        addresses.require_allowed(ipaddress.ip_address(address), "example.com")
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(ValidationError, match="not a public address"):
        addresses.validate_url(f"https://{host}/hook")


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str):
    addresses.require_allowed(ipaddress.ip_address(address), "example.com")


def test_a_network_or_a_host_can_be_allowed(settings: Any):
    for allowed in ("10.1.0.0/16", "hooks.internal"):
        settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_ALLOWED_NETWORKS": [allowed]}
        addresses.require_allowed(ipaddress.ip_address("10.1.2.3"), "HOOKS.internal")
    addresses.require_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), "hooks.internal")
    with pytest.raises(addresses.Refused):
        addresses.require_allowed(ipaddress.ip_address("10.1.2.3"), "hooks.internal.example.com")
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_ALLOWED_NETWORKS": ["10.1.0.0/16"]}
    with pytest.raises(addresses.Refused):
        addresses.require_allowed(ipaddress.ip_address("10.2.2.3"), "hooks.internal")
    addresses.require_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), "hooks.internal")


@pytest.mark.usefixtures("_strict")
def test_a_name_that_means_this_machine_is_refused_when_it_is_connected_to(receiver: Receiver):
    answer = sending.post(receiver.url.replace("127.0.0.1", "localhost"), b"{}", {})
    assert "is not a public address" in answer.problem
    assert receiver.requests == []
    assert receiver.refused == []


@pytest.mark.usefixtures("_strict")
def test_a_name_that_means_something_else_each_time_is_connected_to_as_it_was_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    port = int(receiver.url.split(":")[2].split("/")[0])
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    asked: list[str] = []
    connected: list[Any] = []

    def look_up(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        found = answers[min(len(asked) - 1, 1)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    class Recorded(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address)
            raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(sending.socket, "socket", Recorded)
    sending.post(f"http://rebound.example:{port}/", b"{}", {})
    assert asked == ["rebound.example"], "one look-up, whose answer is checked and used"
    assert connected == [("93.184.216.34", port)]
    assert "not a public" in sending.post(f"http://rebound.example:{port}/", b"{}", {}).problem
    assert len(connected) == 1


@pytest.mark.usefixtures("_strict")
def test_of_several_addresses_only_a_public_one_is_connected_to(monkeypatch: pytest.MonkeyPatch):
    found = ["10.0.0.1", "::ffff:127.0.0.1", "93.184.216.34"]
    connected: list[Any] = []

    class Recorded(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address[0])
            raise OSError("no network here")

    def look_up(host: str, *args: Any, **options: Any) -> Any:
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(sending.socket, "socket", Recorded)
    sending.post("https://several.example/", b"{}", {})
    assert connected == ["93.184.216.34"]


def test_a_setting_that_is_withdrawn_counts_at_once(receiver: Receiver, settings: Any):
    assert sending.post(receiver.url, b"{}", {"webhook-id": "1"}).status is not None or receiver.requests
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_ALLOW_HTTP": False}
    assert "WEBHOOK_ALLOW_HTTP" in sending.post(receiver.url, b"{}", {}).problem


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "such as"),
        ("https://", "such as"),
        ("//example.com/", "such as"),
        ("https://user:pass@example.com/", "user"),
        ("https://example.com/#part", "after #"),
        ("https://example.com:99999/", "no address"),
        ("https://example.com:0/", "port 0"),
        ("https://exa mple.com/", "spaces"),
        ("https://ex\\ample.com/", "spaces"),
        ("https://bücher.example/", "ASCII"),
        ("https://example.com/\r\nX: y", "spaces"),
        ("https://[::1/", "no address"),
    ],
)
def test_what_is_no_address_is_refused_and_named(url: str, why: str):
    with pytest.raises(ValidationError, match=why):
        addresses.validate_url(url)
    with pytest.raises(ValidationError) as refused:
        WebhookSubscription(url=url, event_types=["report.failed"]).clean_fields()
    assert "url" in refused.value.message_dict


def test_http_needs_its_setting(settings: Any):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_ALLOW_HTTP": False}
    with pytest.raises(ValidationError, match="WEBHOOK_ALLOW_HTTP"):
        addresses.validate_url("http://example.com/")
    addresses.validate_url("https://example.com/")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com:8443/services/T0/secret", "https://example.com:8443"),
        ("https://example.com?token=secret", "https://example.com"),
        ("https://[::1]/secret", "https://[::1]"),
        ("", ""),
    ],
)
def test_what_others_see_of_an_address_is_no_secret(url: str, shown: str):
    assert addresses.origin(url) == shown
    assert str(WebhookSubscription(pk=7, url=url)) == f"#7 {shown}"
    assert str(WebhookSubscription(pk=7, url=url, description="desk")) == "desk"
