"""A question and its answer over a Unix socket: one connection for each, one line of JSON each way."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MAX_BYTES = 64 * 1024
RECEIVE_SECONDS = 1.0
"""How long the server waits for the question: a caller sends it as soon as it is connected."""


class NotDelivered(Exception):
    """No server listens at the address: it certainly did not receive the question."""


class NoAnswer(Exception):
    """The server did not answer; it may have received the question."""


def ask(address: str, question: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """Send a question and return the answer, within so many seconds. Raises `NotDelivered` or `NoAnswer`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(address)
        except TimeoutError:
            raise NoAnswer(f"The warm server at {address} does not accept a call; is it stopped?") from None
        except OSError as error:
            raise NotDelivered(f"No warm server listens at {address}: {error.strerror or error}.") from None
        try:
            connection.sendall(_line(question))
            return _parsed(_read_line(connection))
        except TimeoutError:
            text = f"The warm server at {address} did not answer within {seconds:g} s; is it stopped?"
            raise NoAnswer(text) from None
        except (OSError, ValueError):
            raise NoAnswer(f"The warm server at {address} went away without an answer.") from None


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Read the question from an accepted connection; None if the caller sent something else."""
    connection.settimeout(RECEIVE_SECONDS)
    try:
        return _parsed(_read_line(connection))
    except (OSError, ValueError):
        return None


def answer(connection: socket.socket, content: Mapping[str, Any]) -> None:
    """Send the answer and close the connection."""
    with connection, suppress(OSError):  # the caller may have ended
        connection.sendall(_line(content))


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


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
