"""A resolver that hangs holds up neither the other deliveries nor the end of a process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reportqueue import outbox
from reportqueue.models import DeliveryAttempt, EventDelivery
from reportqueue.outbox import lookups, sending
from tests.dagster_reportqueue.waiting import until
from tests.outbox.receiver import Receiver

HANGS = "hangs.example"


class Resolver:
    """It answers for names that begin with `hangs` only when it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()

    def look_up(self, host: str, port: int, **options: Any) -> Any:
        self.asked.append(host)
        if host.startswith("hangs"):
            self.released.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    yield made
    made.released.set()
    until(lambda: not lookups._under_way)


@pytest.mark.django_db(transaction=True)
def test_one_name_that_hangs_stops_no_delivery_to_another_host(
    subscribe, receiver: Receiver, resolver: Resolver, settings: Any
):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_THREADS": 2}
    hanging, other = subscribe(url=f"http://{HANGS}/hook"), subscribe()
    receiver.secrets = [outbox.secret(other)]
    for one in (hanging, other) * 3:
        outbox.send_test(one.pk)
    began = time.monotonic()
    outbox.deliver_for(1.5)
    assert time.monotonic() - began < 5, "each attempt has ended within its time limit"
    assert len(receiver.accepted) == 3
    assert receiver.refused == []
    assert set(EventDelivery.objects.filter(subscription=other).values_list("status", flat=True)) == {"delivered"}
    problems = set(DeliveryAttempt.objects.filter(delivery__subscription=hanging).values_list("problem", flat=True))
    assert problems == {f"The resolver did not find an address of {HANGS} in time."}
    assert resolver.asked.count(HANGS) == 1, "the attempts share one look-up, which still hangs"


def test_callers_of_one_name_share_a_look_up_and_its_answer(resolver: Resolver):
    with ThreadPoolExecutor(4) as callers:
        waiting = [callers.submit(lookups.look_up, HANGS, 443, seconds=10) for _ in range(4)]
        until(lambda: resolver.asked)
        resolver.released.set()
        assert {str(one.result()) for one in waiting} == {str(resolver.look_up(HANGS, 443))}


def test_look_ups_that_hang_are_bounded_and_end_with_no_process_waiting(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lookups, "MOST", 2)
    for number in range(2):
        with pytest.raises(lookups.LookupFailed, match="in time"):
            lookups.look_up(f"hangs-{number}.example", 443, seconds=0.05)
    with pytest.raises(lookups.LookupFailed, match="2 other names"):
        lookups.look_up("fine.example", 443, seconds=5)
    running = [one for one in threading.enumerate() if one.name == "reportqueue-lookup"]
    assert [one.daemon for one in running] == [True, True]
    resolver.released.set()
    until(lambda: not lookups._under_way)
    assert lookups.look_up("fine.example", 443, seconds=5)
    assert lookups._under_way == {}


def test_the_error_of_the_resolver_is_that_of_the_delivery(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "Name or service not known" in sending.post("http://nowhere.example/", b"{}", {}).problem
    assert lookups._under_way == {}
