"""Two web nodes behind HAProxy are restarted in turn, while programs enqueue and claim: no accepted report is lost.

HAProxy has the file of deploy/, the web nodes have gunicorn's settings of the package, and all calls are those of the
client, which repeats a call that a proxy or a web node could not answer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission, User

from dagster_reportqueue import ReportQueueClient
from reportqueue import api_users, tokens
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Status
from tests.acceptance.demos import wait_for
from tests.haproxy import Proxy, haproxy, needs_haproxy
from tests.integration import webapp
from tools.runner.stack import answers, free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180), needs_haproxy]
PRODUCERS, CONSUMERS = 2, 4
PAUSE_SECONDS = 0.03
"""Between two calls of a producer."""
WAIT_SECONDS = 20
"""Of a claim. A node that ends answers it at once."""
STOP_SECONDS = 15
"""How long a node may take to end: less than its claims wait."""


class Node:
    """A web node on a port of its own, which stays the same when the node is restarted."""

    def __init__(self, folder: Path, name: str) -> None:
        self.port = free_port()
        self._log = folder / f"{name}.log"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = webapp.start(self.port, log)

    def wait_until_ready(self) -> None:
        wait_for("a web node", lambda: answers(f"http://127.0.0.1:{self.port}/readyz"), 60)

    def stop(self) -> float:
        """SIGTERM; returns after how many seconds the node has ended."""
        began = time.monotonic()
        self._process.terminate()
        self._process.wait(60)
        return time.monotonic() - began


class Work:
    """The programs that enqueue and claim, each in a thread with a client of its own."""

    def __init__(self, url: str, token: str) -> None:
        self.accepted: list[int] = []
        self.made: list[int] = []
        self.stop_producers, self.stop_consumers = threading.Event(), threading.Event()
        self._client: Callable[[], ReportQueueClient] = lambda: ReportQueueClient(url, token)

    def produce(self, number: int) -> None:
        """Enqueue one report after the other. The key makes a call that is repeated the same call."""
        client, count = self._client(), 0
        while not self.stop_producers.wait(PAUSE_SECONDS):
            count += 1
            body = {"report_id": number, "modifier_id": count, "idempotency_key": f"{number}-{count}"}
            self.accepted.append(client.post("report-queue/", body)["queue_id"])
        client.close()

    def consume(self, name: str) -> None:
        """Claim, start and complete, until nothing is left."""
        client, ack = self._client(), None
        while True:
            last = self.stop_consumers.is_set()
            claim = client.claim(name, ack=ack, limit=10, wait_seconds=0 if last else WAIT_SECONDS)
            if claim.items:
                self._make(client, {item.queue_id: item.generation for item in claim.items})
            elif last:
                break
            ack = claim.claim_id
        client.close()

    def _make(self, client: ReportQueueClient, generations: dict[int, int]) -> None:
        owned: dict[int, UUID] = {}
        for queue_id, started in client.start_many(generations, run_id=str(uuid4())).items():
            assert not isinstance(started, Exception), started
            owned[queue_id] = started.lease_token
        for queue_id, status in client.complete_many(owned, results=dict.fromkeys(owned)).items():
            assert status == "succeeded", status
            self.made.append(queue_id)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    """Two web nodes that are ready. At the end they are stopped."""
    made = {name: Node(tmp_path, name) for name in ("one", "two")}
    for node in made.values():
        node.start()
    try:
        for node in made.values():
            node.wait_until_ready()
        yield made
    finally:
        for node in made.values():
            node.stop()


@pytest.fixture
def proxy(tmp_path: Path, nodes: dict[str, Node]) -> Iterator[Proxy]:
    """HAProxy in front of them."""
    with haproxy(tmp_path, free_port(), {name: node.port for name, node in nodes.items()}) as running:
        yield running


@pytest.fixture
def token() -> str:
    """Of a user who may do everything that Dagster and a producer do."""
    user = User.objects.create_user("dagster")
    wanted = {*api_users.ANY_CONSUMER, *api_users.PRODUCER}
    user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
    return tokens.issue(user, name="test").key


def wait_until_up(proxy: Proxy) -> None:
    """Until HAProxy sends calls to both nodes."""
    wait_for("both nodes in HAProxy", lambda: set(proxy.states().values()) == {"UP"}, 60)


def test_nothing_is_lost_and_no_call_fails_for_good(nodes: dict[str, Node], proxy: Proxy, token: str):
    wait_until_up(proxy)
    work = Work(proxy.url, token)
    with ThreadPoolExecutor(PRODUCERS + CONSUMERS) as pool:
        producers = [pool.submit(work.produce, number) for number in range(1, PRODUCERS + 1)]
        consumers = [pool.submit(work.consume, f"consumer-{number}") for number in range(CONSUMERS)]

        def goes_on(more: int) -> None:
            """Until so many more reports are made; fails at once if a program has ended."""
            wanted = len(work.made) + more

            def enough() -> bool:
                raise_failures(producers + consumers)
                return len(work.made) >= wanted

            wait_for(f"{more} more reports", enough, 30)

        try:
            goes_on(30)
            for node in nodes.values():
                assert node.stop() < STOP_SECONDS
                goes_on(30)
                node.start()
                wait_until_up(proxy)
                goes_on(30)
        finally:
            work.stop_producers.set()
            wait_for("the producers", lambda: all(one.done() for one in producers), 60)
            work.stop_consumers.set()
    raise_failures(producers + consumers)
    assert Counter(work.made) == Counter(work.accepted)
    rows = ReportQueue.objects.in_bulk(work.accepted)
    assert {row.status for row in rows.values()} == {Status.SUCCEEDED}
    assert len(rows) == len(work.accepted) == ReportQueue.objects.count() == ReportAttempt.objects.count()


def raise_failures(running: list[Future[None]]) -> None:
    """Raise what a program has failed with."""
    for one in running:
        if one.done():
            one.result()
