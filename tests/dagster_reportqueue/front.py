"""A real HTTP server before the web app, for everything that goes wrong on the way there and back."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.dagster_reportqueue.waiting import until

PASSED_ON = ("Content-Type", "ETag", "Reportqueue-Time", "Retry-After")
"""Headers of the web app's answers."""


class Fault(Enum):
    """What happens to a request that is not passed on and back."""

    DROP = auto()
    """The connection is closed without an answer; the web app never hears of it."""
    LOSE = auto()
    """The web app does what was asked; its answer is lost."""
    HANG = auto()
    """No answer until the fault is over; then as `DROP`."""


@dataclass(frozen=True)
class Reply:
    """An answer that is not the web app's."""

    status: int = 200
    body: str | bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request that came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float = field(default_factory=time.monotonic)

    @property
    def verb(self) -> str:
        """`claim`, `start`, `heartbeat`, ..."""
        return self.path.rstrip("/").rpartition("/")[2]


class Front:
    """Passes requests on to `backend`, a URL, unless a fault is set."""

    def __init__(self, backend: str) -> None:
        self.calls: list[Call] = []
        self._backend = urlsplit(backend)
        self._fault: Fault | Reply | None = None
        self._verb: str | None = None
        self._times: float = 0
        self._lock = threading.Lock()
        self._healed = threading.Event()
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                front._handle(self)

            def do_GET(self) -> None:
                front._handle(self)

            def do_PATCH(self) -> None:
                front._handle(self)

            def do_DELETE(self) -> None:
                front._handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, fault: Fault | Reply, *, on: str | None = None, times: float = float("inf")) -> None:
        """From now on this happens to requests (`on`: of this verb alone), for so many `times`."""
        with self._lock:
            self._fault, self._verb, self._times = fault, on, times
            self._healed.clear()

    def heal(self) -> None:
        """Everything is passed on again."""
        with self._lock:
            self._fault = None
            self._healed.set()

    def verbs(self) -> list[str]:
        return [call.verb for call in self.calls]

    def wait_for(self, verb: str, times: int = 1, seconds: float = 20) -> None:
        """Until so many requests of a verb have come in."""
        until(lambda: self.verbs().count(verb) >= times, seconds, what=f"{times} x {verb}")

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        call = Call(request.command, request.path, dict(request.headers), json.loads(body) if body else None)
        with self._lock:
            fault = self._fault if self._verb in (None, call.verb) and self._times > 0 else None
            if fault is not None:
                self._times -= 1
        self.calls.append(call)
        if isinstance(fault, Reply):
            content = fault.body.encode() if isinstance(fault.body, str) else fault.body
            self._answer(request, fault.status, fault.kind, content, fault.headers)
            return
        if fault is Fault.HANG:
            self._healed.wait(60)
        if fault in (Fault.HANG, Fault.DROP):
            request.close_connection = True
            return
        status, headers, content = self._pass_on(call, body)
        if fault is Fault.LOSE:
            request.close_connection = True
            return
        self._answer(request, status, headers.pop("Content-Type", ""), content, headers)

    def _pass_on(self, call: Call, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._backend.hostname or "", self._backend.port, timeout=60)
        try:
            headers = {name: value for name, value in call.headers.items() if name not in ("Host", "Connection")}
            connection.request(call.method, call.path, body, headers)
            answer = connection.getresponse()
            passed = {name: text for name in PASSED_ON if (text := answer.headers[name]) is not None}
            return answer.status, passed, answer.read()
        finally:
            connection.close()

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, kind: str, content: bytes, headers: Mapping[str, str]
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)
