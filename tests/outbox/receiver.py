"""A receiver of webhooks on this machine. It checks each signature with the reference library, and can misbehave."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

OK = "ok"
FAULTS = ("500", "410", "garbage", "closes", "closes in the answer", "slow", "drips", "redirect", "huge")


@dataclass
class Received:
    """One request."""

    message_id: str
    payload: Any
    fault: str

    @property
    def subject(self) -> Any:
        return self.payload["data"].get("queue_id")


@dataclass
class Receiver:
    """What has come, and what is answered to it."""

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    """Each of these must have signed."""
    requests: list[Received] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Why requests were wrong."""
    faults: Callable[[int], str] = lambda number: OK
    """What to do with the request of this number."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def accepted(self) -> list[Received]:
        """Those that were answered with 200."""
        with self.lock:
            return [one for one in self.requests if one.fault == OK]

    def note(self, handler: BaseHTTPRequestHandler) -> str:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self.lock:
            for secret in self.secrets:
                try:
                    Webhook(secret).verify(body, headers)
                except Exception as error:
                    self.refused.append(repr(error))
            fault = self.faults(len(self.requests))
            self.requests.append(Received(headers["webhook-id"], json.loads(body), fault))
        return fault


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver that listens until the end of the context; with `tls`, for https."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.refused.append("a redirect was followed")

        def do_POST(self) -> None:
            with suppress(OSError):
                answer(self, state.note(self))

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, fault: str) -> None:
    made: socket.socket = handler.connection
    if fault in (OK, "500", "410", "redirect"):
        handler.send_response({OK: 200, "redirect": 302}.get(fault) or int(fault))
        if fault == "redirect":
            handler.send_header("Location", "/elsewhere")
        said = b"thank you" if fault == OK else b"no"
        handler.send_header("Content-Length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)
    elif fault == "garbage":
        made.sendall(b"\x00\xff what?\r\n\r\n")
    elif fault == "closes in the answer":
        made.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    elif fault == "slow":
        time.sleep(1.5)
    elif fault == "drips":
        for _ in range(40):
            made.sendall(b"H")
            time.sleep(0.1)
    elif fault == "huge":
        made.sendall(b"HTTP/1.1 500 No\r\nX: " + b"y" * 200_000)
    handler.close_connection = True
