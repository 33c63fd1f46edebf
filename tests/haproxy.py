"""HAProxy with deploy/haproxy.cfg, on ports of the tests."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIG = Path(__file__).resolve().parents[1] / "deploy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_haproxy = pytest.mark.skipif(
    HAPROXY is None, reason="HAProxy is not installed; on Debian: apt-get install haproxy"
)


def configuration(folder: Path, port: int, nodes: Mapping[str, int]) -> str:
    """The file, with this port and these ports of the nodes; all that differs is where things are."""
    text = CONFIG.read_text().replace("/run/haproxy/", f"{folder}/")
    text = re.sub(r"^ *(user|group) haproxy\n", "", text, flags=re.MULTILINE)  # who that is depends on the machine
    text, bound = re.subn(r"bind :80\b", f"bind 127.0.0.1:{port}", text)
    assert bound == 1
    for name, node in nodes.items():
        text, found = re.subn(rf"server {name} \S+", f"server {name} 127.0.0.1:{node}", text)
        assert found == 1
    return text


@dataclass(frozen=True)
class Proxy:
    """A running HAProxy."""

    url: str
    control: Path
    """Its socket for commands."""

    def states(self) -> dict[str, str]:
        """The state of each node: `UP`, `DOWN`, or on its way."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(10)
            asked.connect(str(self.control))
            asked.sendall(b"show stat\n")
            answer = b"".join(iter(lambda: asked.recv(65_536), b"")).decode()
        header, *lines = (line.split(",") for line in answer.removeprefix("# ").splitlines() if line)
        rows = [dict(zip(header, line, strict=False)) for line in lines]
        nodes = [row for row in rows if row["pxname"] == "web" and row["svname"] != "BACKEND"]
        return {row["svname"]: row["status"] for row in nodes}


@contextmanager
def haproxy(folder: Path, port: int, nodes: Mapping[str, int]) -> Iterator[Proxy]:
    """Run it until the end of the context."""
    assert HAPROXY is not None
    path = folder / "haproxy.cfg"
    path.write_text(configuration(folder, port, nodes))
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([HAPROXY, "-db", "-f", str(path)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while not (folder / "admin.sock").exists():
            assert process.poll() is None, (folder / "haproxy.log").read_text()
            assert time.monotonic() < until, "HAProxy does not start"
            time.sleep(0.02)
        yield Proxy(f"http://127.0.0.1:{port}", folder / "admin.sock")
    finally:
        process.terminate()
        process.wait(20)
