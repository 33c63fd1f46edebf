"""Calls from the product's client to the web app's WSGI handler, and what the network does to them."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import responses
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from django.core.wsgi import get_wsgi_application
from requests.adapters import BaseAdapter

from dagster_reportqueue.client import ReportQueueClient
from tools.simulator import faults
from tools.simulator.chance import Chance
from tools.simulator.database import TOKEN
from tools.simulator.door import Door
from tools.simulator.faults import Faults
from tools.simulator.machine import machine
from tools.simulator.world import Task, World

URL = "http://simulated"
RESTART_SECONDS = (0.5, 20.0)
"""How long the web app is away after it was killed."""


@dataclass(frozen=True)
class Answer:
    """An answer of the web app."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Web:
    """The web app's process; each request is a task of it."""

    def __init__(self, world: World, chance: Chance, door: Door) -> None:
        self.application = get_wsgi_application()
        self._world, self._chance, self._door = world, chance, door
        self._deaths = 0
        self._start()

    def serve(self, name: str, request: Mapping[str, Any], delay: float = 0.0) -> _Handling:
        """Handle a request in a task; `delay` seconds pass before it arrives."""
        handling = _Handling()

        def handle() -> None:
            handling.answer = self._handled(request)
            self._world.wake(handling.waiters)

        if not self.process.dead:
            self._world.spawn(self.process, name, handle, delay=delay)
        return handling

    def _start(self) -> None:
        self.process = self._world.process(f"web {self._deaths}" if self._deaths else "web")
        self.process.on_death.append(self._die)

    def _die(self) -> None:
        self._deaths += 1
        seconds = self._chance.between(*RESTART_SECONDS, "web restart", self._deaths)
        self._world.later(seconds, f"restart web {self._deaths}", self._start)

    def _handled(self, request: Mapping[str, Any]) -> Answer:
        body = request["body"]
        parts = urlsplit(request["url"])
        environ = {
            "REQUEST_METHOD": request["method"],
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request["headers"].items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        began: list[Any] = []
        parts_of_answer = self.application(environ, lambda status, headers, _=None: began.extend((status, headers)))
        with contextlib.closing(parts_of_answer):  # type: ignore[type-var]
            content = b"".join(parts_of_answer)
        answer = Answer(int(began[0].split()[0]), dict(began[1]), content)
        self._door.passed(request["method"], parts.path, body, answer.status, content)
        return answer


class _Handling:
    """A request under way; `answer` is None until the web app has answered."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.waiters: list[Task] = []


class Network:
    """What lies between the clients and the web app."""

    def __init__(self, world: World, chance: Chance, struck: Faults, web: Web) -> None:
        self._world, self._chance, self._faults, self._web = world, chance, struck, web

    def call(self, request: Mapping[str, Any], timeout: float) -> Answer:
        """Make a call from the running task. Raises as `requests` does if no answer comes in time."""
        world = self._world
        task = world.current
        assert task is not None
        world.pause()
        kind = self._faults.strike(faults.NETWORK, task)
        name = f"{task.name}>{task.calls}"
        if kind == faults.CUT_OFF:
            seconds = self._chance.between(10, 150, "cut off", name)
            task.process.cut_until = world.microseconds + round(seconds * 1e6)
        if task.process.cut_until > world.microseconds or self._web.process.dead:
            world.sleep(self._chance.between(0.01, 0.5, "refused", name))
            raise requests.ConnectionError("connection refused")
        if kind == faults.BAD_GATEWAY:
            return Answer(502, {"Content-Type": "text/html"}, b"<h1>502 Bad Gateway</h1>")
        if kind == faults.REQUEST_LOST:
            world.sleep(self._chance.pick((0.1, timeout), "lost", name))
            raise requests.ConnectionError("the request was lost")
        late = timeout + self._chance.pick((0.5, 5, 20, 90), "late", name)
        delay = late if kind == faults.REQUEST_LATE else 0.0
        handling = self._web.serve(name, request, delay)
        if kind == faults.DUPLICATED:
            again = self._chance.pick((0.0, 0.01, 0.5, 5, 40), "again", name)
            self._web.serve(f"{name} again", request, again)
        answered = world.wait_for(lambda: handling.answer is not None, handling.waiters, timeout)
        if not answered or handling.answer is None:
            raise requests.ReadTimeout("no answer in time")
        if kind == faults.ANSWER_LATE:
            world.sleep(timeout)
            raise requests.ReadTimeout("no answer in time")
        world.pause()
        if kind == faults.ANSWER_LOST:
            raise requests.ConnectionError("the answer was lost")
        return handling.answer


class SimulatedClient(ReportQueueClient):
    """The product's client; the simulated network carries its calls."""

    network: Network

    def _adapter(self, retries: int, *, once: bool) -> BaseAdapter:
        return _Adapter(self.network, 0 if once else retries)


class _Adapter(BaseAdapter):
    def __init__(self, network: Network, retries: int) -> None:
        super().__init__()
        self._network, self._retries = network, retries

    def send(self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, **__: Any) -> requests.Response:
        body = request.body or b""
        given = {
            "method": request.method,
            "url": request.url,
            "headers": {name: value for name, value in request.headers.items() if name in _SENT},
            "body": body.encode() if isinstance(body, str) else body,
        }
        for left in range(self._retries, -1, -1):
            try:
                answer = self._network.call(given, timeout[1])
            except requests.RequestException:
                if not left:
                    raise
            else:
                if not left or answer.status not in (502, 503, 504):
                    return _response(request, answer)
            machine.here.sleep(0.2)
        raise AssertionError

    def close(self) -> None:
        """There is no connection."""


_SENT = {"Authorization", "Content-Type", "If-None-Match", "Idempotency-Key"}


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.reason = responses.get(answer.status, "")
    response.headers.update(answer.headers)
    response.raw = io.BytesIO(answer.body)
    response._content = answer.body
    response.request, response.url = request, request.url or ""
    return response


class Resource:
    """As `ReportQueueResource`: makes clients."""

    def client(self, *, retries: int = 3) -> ReportQueueClient:
        """A client of the simulated network."""
        return SimulatedClient(URL, TOKEN, retries=retries)
