"""The addresses of a host are looked up within a time limit: a resolver may hang for as long as it wishes."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from typing import Any

MOST = 50
"""Names that one process looks up at once, each in a thread of its own that ends with the resolver's answer."""
Found = list[tuple[Any, ...]]
"""What `socket.getaddrinfo` returns."""


class LookupFailed(Exception):
    """The name of a host was not looked up in time; the message says why."""


_under_way: dict[tuple[str, int], Future[Found]] = {}
_lock = threading.Lock()


def look_up(host: str, port: int, *, seconds: float) -> Found:
    """The addresses of a host for a connection, within so many `seconds`.

    Callers that want the same name meanwhile share one look-up, so a name that hangs holds one thread, and the others
    go on. Nothing is remembered once it has ended. Raises `LookupFailed`, and what `socket.getaddrinfo` raises.
    """
    with _lock:
        found = _under_way.get((host, port))
        if found is None:
            if len(_under_way) >= MOST:
                raise LookupFailed(f"{MOST} other names are being looked up, and the resolver does not answer.")
            found = _under_way[host, port] = _begin(host, port)
    try:
        return found.result(timeout=seconds)
    except TimeoutError:
        if found.done():  # the resolver's own error
            raise
        raise LookupFailed(f"The resolver did not find an address of {host} in time.") from None


def _begin(host: str, port: int) -> Future[Found]:
    found: Future[Found] = Future()
    # No pool: the end of the process would wait for its threads.
    threading.Thread(target=_ask, args=(host, port, found), name="reportqueue-lookup", daemon=True).start()
    return found


def _ask(host: str, port: int, found: Future[Found]) -> None:
    addresses: Found = []
    problem: Exception | None = None
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:
        problem = error
    with _lock:
        del _under_way[host, port]
    if problem is None:
        found.set_result(addresses)
    else:
        found.set_exception(problem)
