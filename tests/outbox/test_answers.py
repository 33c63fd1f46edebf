"""What receivers answer: the status of the final answer counts, whatever comes before it and after it."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from reportqueue.outbox import sending

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def answering(*parts: bytes, endless: bytes = b"", closes: bool = True) -> Iterator[str]:
    """The address of a receiver that answers one request with these bytes, then with `endless` ones."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            made, _ = server.accept()
            with made, suppress(OSError):
                while not made.recv(65536).endswith(b"{}"):
                    pass
                for part in parts:
                    made.sendall(part)
                while endless and not done.is_set():
                    made.sendall(endless)
                if not closes:
                    done.wait()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("parts", "closes", "status", "text"),
    [
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi"], True, 200, "hi"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Wait\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"], True, 204, ""),
        ([OK + b"\r\nhello"], False, 200, "hello"),
        ([OK + b"Content-Length: 100\r\n\r\nhello"], False, 200, "hello"),
        ([OK + b"Content-Length: 100\r\n\r\nhello"], True, 200, "hello"),
        ([CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], True, 200, "hello"),
        ([CHUNKED + b"99\r\nhello"], True, 200, "hello"),
        ([CHUNKED + b"zz\r\nhello"], True, 200, ""),
    ],
)
def test_an_answer_counts_once_its_head_is_there(parts: list[bytes], closes: bool, status: int, text: str):
    with answering(*parts, closes=closes) as url:
        answer = sending.post(url, b"{}", {})
    assert (answer.status, answer.text, answer.problem) == (status, text, "")
    assert answer.milliseconds < 2000


def test_a_refusal_counts_though_its_text_does_not_end():
    with answering(b"HTTP/1.1 410 Gone\r\nContent-Length: 9\r\n\r\nno", closes=False) as url:
        assert sending.post(url, b"{}", {}).status == sending.GONE


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Le"], "within its headers"),
        ([b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Le"], "within its headers"),
        ([OK + b"X: y\r\n"], "within its headers"),
        ([b"HTTP/1.1 103 Early Hints\r\n\r\n"], "closed connection"),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], "Answered with 101"),
    ],
)
def test_what_is_no_whole_head_is_no_answer(parts: list[bytes], problem: str):
    with answering(*parts) as url:
        assert problem in sending.post(url, b"{}", {}).problem


@pytest.mark.parametrize(
    ("begin", "endless", "delivered"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, False),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, False),
        (OK, b"X: y\r\n" * 100, False),
        (OK + b"\r\n", b"x" * 10_000, True),
        (CHUNKED + b"-1\r\n", b"x" * 100_000, True),
        (CHUNKED + b"fffffffff\r\n", b"x" * 100_000, True),
    ],
)
def test_an_answer_without_an_end_is_read_within_bounds(begin: bytes, endless: bytes, delivered: bool):
    tracemalloc.start()
    try:
        with answering(begin, endless=endless) as url:
            answer = sending.post(url, b"{}", {})
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.delivered == delivered, answer
    assert answer.milliseconds < 2000
    assert most < 3_000_000
