"""One webhook is sent: a POST within a time limit, to an address that was checked when the connection was made."""

from __future__ import annotations

import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from reportqueue import addresses
from reportqueue.conf import conf
from reportqueue.lines import cut
from reportqueue.models.event import MAX_ANSWER_LENGTH, MAX_PROBLEM_LENGTH
from reportqueue.outbox.lookups import LookupFailed, look_up

MAX_ANSWER_BYTES = 4096
"""So much of an answer's body is read; then the connection is closed."""
CONNECT_SECONDS = 5.0
"""The longest wait for one address of a host that has several."""
GONE = 410
"""The status by which a receiver says that it wants no more."""
SWITCHING = 101
"""The one status below 200 after which no other answer comes."""
HTTPS_PORT, HTTP_PORT = 443, 80


@dataclass(frozen=True)
class Answer:
    """What came of one attempt."""

    status: int | None
    """Of the answer; None if there was none."""
    milliseconds: int
    url: str
    """Where it was sent."""
    text: str = ""
    """The begin of the answer's body."""
    problem: str = ""
    """Why it did not succeed; empty if it did."""

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return not self.problem


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send it, and tell what was answered; never raises for anything that the other side does.

    Redirects are not followed, and proxies of the environment not used: both would lead around the check.
    """
    began = time.monotonic()
    status, text, problem = None, "", ""
    try:
        status, text = _exchange(url, body, headers, began + conf().webhook_timeout_seconds)
        if not 200 <= status < 300:
            problem = f"Answered with {status}."
            if 300 <= status < 400:
                problem += " Redirects are not followed: correct the address."
    except (addresses.Refused, LookupFailed) as error:
        problem = str(error)
    except TimeoutError:
        problem = f"No answer within {conf().webhook_timeout_seconds:g} s."
    except ssl.SSLCertVerificationError as error:
        problem = f"The certificate is not trusted: {error.verify_message}."
    except (OSError, HTTPException, ValueError) as error:
        problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    took = round((time.monotonic() - began) * 1000)
    return Answer(status, took, url, _storable(text, MAX_ANSWER_LENGTH), _storable(problem, MAX_PROBLEM_LENGTH))


def _storable(text: str, limit: int) -> str:
    return cut(text.replace("\x00", "\ufffd"), limit)


def _exchange(url: str, body: bytes, headers: Mapping[str, str], deadline: float) -> tuple[int, str]:
    parts = addresses.split(url)
    secure = parts.scheme == "https"
    if not secure and not conf().webhook_allow_http:
        raise addresses.Refused("The setting WEBHOOK_ALLOW_HTTP does not allow http://.")
    host, port = parts.hostname or "", parts.port or (HTTPS_PORT if secure else HTTP_PORT)
    link = HTTPConnection(host, port)
    link.default_port = HTTPS_PORT if secure else HTTP_PORT
    raw = _connect(host, port, deadline)
    try:
        if secure:
            raw.settimeout(_left(deadline))
            raw = _context().wrap_socket(raw, server_hostname=host)
        timed = _Timed(raw, deadline)
        link.sock = timed  # it has what http.client uses of a socket
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        link.request("POST", target, body, {**headers, "Connection": "close"})
        answer = _final(timed)
        return answer.status, _said(answer).decode("utf-8", "replace")
    finally:
        raw.close()


def _final(timed: _Timed) -> HTTPResponse:
    """The head of the final answer. Others, such as 103, may come before it."""
    while True:
        answer = HTTPResponse(timed, method="POST")  # type: ignore[arg-type]  # it has what is used of a socket
        answer.begin()
        if timed.lines.last not in (b"\r\n", b"\n"):  # http.client takes the end of the connection for that of the head
            raise HTTPException("The answer ended within its headers.")
        if answer.status >= 200 or answer.status == SWITCHING:
            return answer
        answer.fp = None  # type: ignore[assignment]  # its end is not that of the connection


def _said(answer: HTTPResponse) -> bytes:
    """The begin of what was answered. The head is the answer: it counts, whatever becomes of the rest."""
    said = b""
    # Not `read`: it waits for all, and believes a chunk that claims to be of any length.
    with suppress(OSError, HTTPException, ValueError):
        while len(said) < MAX_ANSWER_BYTES and (more := answer.read1(MAX_ANSWER_BYTES - len(said))):
            said += more
    return said[:MAX_ANSWER_BYTES]


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to one of the host's addresses, each of which is checked first.

    Raises the last error, and `LookupFailed`.
    """
    found = look_up(host, port, seconds=_left(deadline))
    failed: Exception = OSError(f"{host} has no address.")
    for family, kind, protocol, _, address in found:
        made = None
        try:
            made = socket.socket(family, kind, protocol)
            # The address itself is connected to, not the name: a second look-up could find another one.
            addresses.require_allowed(ipaddress.ip_address(str(address[0]).partition("%")[0]), host)
            made.settimeout(min(CONNECT_SECONDS, _left(deadline)))
            made.connect(address)
            return made
        except (OSError, addresses.Refused) as error:
            if made is not None:
                made.close()
            failed = error
            _left(deadline)
    raise failed


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Timed:
    """A connection whose whole use ends at a deadline. A socket's own time limit applies to each read: an answer that
    arrives byte by byte would never reach it."""

    def __init__(self, made: socket.socket, deadline: float) -> None:
        self._made, self._deadline = made, deadline
        self.lines = _Lines(_Reader(made, deadline))

    def sendall(self, data: Any) -> None:
        self._made.settimeout(_left(self._deadline))
        self._made.sendall(data)

    def makefile(self, mode: str) -> _Lines:
        """The same for each answer: what has come already is in its buffer."""
        return self.lines

    def close(self) -> None:
        """The caller closes it."""


class _Lines(io.BufferedReader):
    """What comes, with the last line that was read."""

    last = b""

    def readline(self, size: int | None = -1) -> bytes:
        self.last = super().readline(size)
        return self.last


class _Reader(io.RawIOBase):
    def __init__(self, made: socket.socket, deadline: float) -> None:
        self._made, self._deadline = made, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._made.settimeout(_left(self._deadline))
        return self._made.recv_into(buffer)
