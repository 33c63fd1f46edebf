"""The real web server on the test's database."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from project.environment import BASE_DIR
from tests.integration.test_enqueue_due_reports import database_url
from tools.runner.stack import free_port, gunicorn


@dataclass(frozen=True)
class Web:
    """The address and the process that was started, gunicorn's master."""

    url: str
    process: subprocess.Popen[bytes]


def start(
    port: int, output: int | IO[bytes] = subprocess.DEVNULL, settings: str = "project.settings", *options: str
) -> subprocess.Popen[bytes]:
    """Start it on a port, with the test's database and these options of gunicorn."""
    environment = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": settings}
    return subprocess.Popen([*gunicorn(port), *options], cwd=BASE_DIR, env=environment, stdout=output, stderr=output)


@contextmanager
def running(settings: str = "project.settings", *options: str) -> Iterator[Web]:
    """The web app as it is shipped: one process of sixteen threads. Or with other settings and options of gunicorn."""
    port = free_port()
    process = start(port, subprocess.DEVNULL, settings, *options)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while status_of(f"{url}/healthz") != 200:
            assert time.monotonic() < until, "the web app does not come up"
            assert process.poll() is None, "the web app has ended"
            time.sleep(0.1)
        yield Web(url, process)
    finally:
        process.terminate()
        process.wait(timeout=20)


def status_of(url: str, token: str = "", body: str = "") -> int:
    """The status of the answer; 0 if there is none."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Token {token}"} if token else {})
    request = urllib.request.Request(url, data=body.encode() or None, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0
