"""The warm server's loop: what it does when it cannot go on."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from dagster_reportqueue.warm import messages
from dagster_reportqueue.warm.server import EXHAUSTED_SECONDS, Server


def test_a_server_without_a_free_file_pauses_while_a_caller_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The caller stays in the listener's queue, so the selector would wake the loop again and again."""
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    server = Server.__new__(Server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        caller.connect(str(tmp_path / "socket"))
        server._listener = listener
        free = os.dup(listener.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            server._accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert paused == [EXHAUSTED_SECONDS]
        caller.sendall(b"no question\n")
        server._accept()  # there is a file again: the same caller is accepted
        assert paused == [EXHAUSTED_SECONDS]


def test_callers_who_come_while_the_server_ends_are_answered(tmp_path: Path):
    """A launch without an answer fails, and its row comes back half a minute later."""
    server = Server.__new__(Server)
    server._refused, server._runs, server._waiting = deque(), {}, deque()
    server._sources = SimpleNamespace(changed=lambda: None)  # type: ignore[assignment]
    server._owner = None  # a launcher has replaced it
    path = str(tmp_path / "socket")
    question = {"verb": "launch", "run_id": "run"}
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(3) as pool:
        listener.bind(path)
        listener.listen()
        server._listener = listener
        late = [pool.submit(messages.ask, path, question, seconds=5) for _ in range(3)]
        time.sleep(0.5)
        server._refuse_the_rest()
        assert [one.result() for one in late] == [{"stale": "another server has taken its place"}] * 3
        with pytest.raises(messages.NotDelivered):
            messages.ask(path, question, seconds=5)
