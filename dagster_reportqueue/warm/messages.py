"""A question and its answer over a Unix socket: a connection each time, and a line of JSON each way."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MAX_BYTES = 64 * 1024
HEARING_SECONDS = 1.0
"""How long the server waits for a question's line: whoever connects has it ready."""


class NotDelivered(Exception):
    """Nobody listens there: the server is gone, and the question was surely not heard."""


class NoAnswer(Exception):
    """The question may have been heard; `gone` says whether the server went away, or else is silent."""

    def __init__(self, text: str, *, gone: bool) -> None:
        super().__init__(text)
        self.gone = gone


def ask(address: str, question: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """The server's answer, waited for so many seconds. Raises `NotDelivered` or `NoAnswer`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(address)
        except TimeoutError:
            raise NoAnswer(f"The warm server at {address} does not accept a call; is it stopped?", gone=False) from None
        except OSError as error:
            raise NotDelivered(f"No warm server listens at {address}: {error.strerror or error}.") from None
        try:
            connection.sendall(_line(question))
            return _parsed(_read_line(connection))
        except TimeoutError:
            text = f"The warm server at {address} did not answer within {seconds:g} s; is it stopped?"
            raise NoAnswer(text, gone=False) from None
        except (OSError, ValueError):
            raise NoAnswer(f"The warm server at {address} went away without an answer.", gone=True) from None


def hear(connection: socket.socket) -> dict[str, Any] | None:
    """The question on an accepted connection; None if whoever connected said nothing that is one."""
    connection.settimeout(HEARING_SECONDS)
    try:
        return _parsed(_read_line(connection))
    except (OSError, ValueError):
        return None


def answer(connection: socket.socket, said: Mapping[str, Any]) -> None:
    """Answer, and hang up."""
    with connection, suppress(OSError):  # whoever asked may be gone
        connection.sendall(_line(said))


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _read_line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        more = connection.recv(MAX_BYTES)
        if not more or len(received) + len(more) > MAX_BYTES:
            raise ValueError("not a line")
        received += more
    return received


def _parsed(line: bytes) -> dict[str, Any]:
    parsed = json.loads(line)
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    return parsed
