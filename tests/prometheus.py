"""Prometheus and its promtool, if they are installed, and what names of metrics an expression has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.runner.stack import free_port

PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    PROMTOOL is None or PROMETHEUS is None, reason="Prometheus is not installed; on Debian: apt-get install prometheus"
)
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What promtool says."""
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True)


def metrics_of(expression: str) -> set[str]:
    """The names of our metrics in an expression; of a histogram, that of its family."""
    return {SUFFIX.sub("", name) for name in re.findall(r"\breportqueue_\w+", expression)}


class Server:
    """A Prometheus that runs."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; None if there is none yet."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, expression: str) -> float | None:
        """The value of an expression now; None without one."""
        found = self.get("query", query=expression)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None


@contextmanager
def running(config: Path, data: Path) -> Iterator[Server]:
    """A Prometheus with this configuration."""
    assert PROMETHEUS is not None
    port = free_port()
    options = (f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}")
    log = data.with_suffix(".log").open("wb")
    process = subprocess.Popen([PROMETHEUS, *options], stdout=log, stderr=log)
    try:
        server, until = Server(port), time.monotonic() + 30
        while server.get("status/runtimeinfo") is None:
            assert process.poll() is None, "Prometheus has ended"
            assert time.monotonic() < until, "Prometheus does not come up"
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)
        log.close()
