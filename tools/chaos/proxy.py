"""An HTTP proxy between the orchestrator and the web app, that lets a set of rules see, hold and lose its messages."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

BACKEND_SECONDS = 60.0
PASSED_ON = ("content-type", "etag", "reportqueue-time", "retry-after")
"""Headers of the web app's answers that its callers read."""


@dataclass
class Call:
    """A request on its way: `verb` is claim, start, heartbeat, complete ... or the method; `row` the id in its path."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    verb: str = ""
    row: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    answer_is_lost: bool = False
    """A note that a rule makes for itself."""

    def __post_init__(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")  # api/report-queue/12/start
        self.verb = parts[-1] if self.method == "POST" and len(parts) > 2 else self.method
        self.row = int(parts[2]) if len(parts) == 4 and parts[2].isdigit() else None
        try:
            fields = json.loads(self.body or b"{}")
        except ValueError:
            fields = {}
        self.fields = fields if isinstance(fields, dict) else {}


@dataclass
class Answer:
    """What the web app said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The body's JSON object, or nothing."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Lost(Exception):
    """Raised by a rule: the connection is closed without an answer."""


class Rules(Protocol):
    """What may happen to messages; called from many threads."""

    def before(self, call: Call) -> Answer | None:
        """Before the call is forwarded: an answer instead of the web app's, or `Lost`."""

    def after(self, call: Call, answer: Answer) -> None:
        """The web app has answered, its caller does not know yet: may raise `Lost`."""

    def delivered(self, call: Call, answer: Answer) -> None:
        """The answer was written to the caller's socket."""


class Proxy:
    """Listens on a port of its own; `rules` may be changed at any time."""

    def __init__(self, backend_port: int, rules: Rules) -> None:
        self._backend_port = backend_port
        self.rules = rules
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 120
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                proxy.handle(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Callers die here by the dozen."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """One request of one connection."""
        length = int(request.headers.get("Content-Length") or 0)
        call = Call(request.command, request.path, dict(request.headers.items()), request.rfile.read(length))
        try:
            answer = self.rules.before(call) or self.forward(call)
            self.rules.after(call, answer)
        except (Lost, OSError, http.client.HTTPException):  # so looks a web app that is not there
            request.close_connection = True
            with contextlib.suppress(OSError):
                request.connection.shutdown(socket.SHUT_RDWR)
            return
        request.send_response_only(answer.status)
        for name, value in answer.headers:
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(answer.body)))
        request.end_headers()
        request.wfile.write(answer.body)
        request.wfile.flush()
        self.rules.delivered(call, answer)

    def forward(self, call: Call) -> Answer:
        """The web app's answer. Raises `OSError` or `HTTPException` if it gives none."""
        connection = http.client.HTTPConnection("127.0.0.1", self._backend_port, timeout=BACKEND_SECONDS)
        try:
            kept = {name: value for name, value in call.headers.items() if name.lower() not in ("connection", "host")}
            connection.request(call.method, call.path, call.body or None, kept)
            response = connection.getresponse()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() in PASSED_ON]
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def forward_later(self, call: Call, seconds: float) -> None:
        """A copy of the request that nobody waits for."""

        def later() -> None:
            time.sleep(seconds)
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.forward(call)

        threading.Thread(target=later, name="proxy-copy", daemon=True).start()
