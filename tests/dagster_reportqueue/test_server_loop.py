"""The warm server's loop: what it does when it cannot go on."""

from __future__ import annotations

import os
import resource
import socket
import time
from pathlib import Path

import pytest

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
