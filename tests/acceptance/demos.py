"""Real demos for the acceptance tests: `run.py demo` as anybody starts it, on data and ports of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tools.runner.stack import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS = 10.0
"""What run.py promises: Ctrl-C or SIGTERM ends everything within this time."""
OURS = re.compile(r"DATABASE_URL$|^(DJANGO|DAGSTER|REPORT|PYTEST|RETRY_BACKOFF|SECRET_KEY|PYTHON(PATH|HOME|WARNINGS))")
"""Variables that the tests or another demo have set."""
T = TypeVar("T")


def wait_for(what: str, ready: Callable[[], T | None], seconds: float) -> T:
    """The first answer of `ready` that is true, asked again and again; fails after `seconds`."""
    until = time.monotonic() + seconds
    while not (answer := ready()):
        assert time.monotonic() < until, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.02)
    return answer


def clean_environment(**variables: str) -> dict[str, str]:
    """A user's environment: this one without what the tests and other demos have set, and with `variables`."""
    return {name: value for name, value in os.environ.items() if not OURS.search(name)} | variables


def processes_on(data: Path) -> dict[int, str]:
    """Whatever works on this data, by process id: it has the folder in its command, environment or as its own."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            inside = Path(process.cwd()).is_relative_to(data)  # PostgreSQL's processes overwrite their environment
            if inside or any(str(data) in text for text in (*command, *process.environ().values())):
                found[process.pid] = " ".join(command) or process.name()
        except (psutil.Error, OSError):
            continue
    return found


@dataclass(frozen=True)
class Answer:
    """Of the web app or Dagster's UI."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """A redirect is an answer."""


_opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def http(method: str, url: str, body: bytes | None = None, **headers: str) -> Answer:
    """One request, errors and redirects as they are."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310
    try:
        with _opener.open(request, timeout=30) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has just ended, and may be a zombie still
        return ""


class DemoProcess:
    """A `run.py demo` and its output."""

    def __init__(self, data: Path, *options: str, ports: tuple[int, int] | None = None, **variables: str) -> None:
        """Starts it; `variables` go into its environment."""
        self.data = data
        self.ports = ports or (free_port(), free_port())
        self.web, self.dagster = (f"http://127.0.0.1:{port}" for port in self.ports)
        self._output = data.parent / f"{data.name}.{self.ports[0]}"
        command = [sys.executable, str(ROOT / "run.py"), "demo", "--no-history", *options]
        command += ["--port", str(self.ports[0]), "--dagster-port", str(self.ports[1])]
        with (
            self._output.with_suffix(".out").open("wb") as out,
            self._output.with_suffix(".err").open("wb") as err,
        ):
            self.process = subprocess.Popen(
                command,
                # From anywhere: a demo does not depend on where it is started.
                cwd=data.parent,
                env=clean_environment(REPORTQUEUE_DATA_DIR=str(data), **variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """What it has printed."""
        return self._output.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        """What it has complained about."""
        return self._output.with_suffix(".err").read_text()

    @property
    def stored(self) -> dict[str, str]:
        """Secrets and addresses, as it left them for others."""
        stored: dict[str, str] = json.loads((self.data / "demo.json").read_text())
        return stored

    def wait_for(self, what: str, ready: Callable[[], T | None], seconds: float) -> T:
        """As `wait_for`, and fails at once if the demo ends meanwhile."""

        def ready_and_running() -> T | None:
            assert self.process.poll() is None, f"the demo ended before {what}:\n{self.out}{self.err}"
            return ready()

        return wait_for(what, ready_and_running, seconds)

    def wait_for_line(self, text: str, seconds: float = 120) -> None:
        """Wait until it has printed a text."""
        self.wait_for(f"{text!r} is printed", lambda: text in self.out, seconds)

    def ended(self, seconds: float) -> int:
        """Its exit code, within `seconds`."""
        return self.process.wait(seconds)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM: its exit code, and after how many seconds."""
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(60)
        return code, time.monotonic() - began

    def api(self, method: str, path: str, body: Any = None, token: str | None = None) -> Answer:
        """A request to the web app, as the consumer unless with another token."""
        headers = {"Authorization": f"Token {token or self.stored['REPORTQUEUE_TOKEN']}"}
        headers["Content-Type"] = "application/json"
        return http(method, f"{self.web}{path}", None if body is None else json.dumps(body).encode(), **headers)

    def item(self, queue_id: int) -> dict[str, Any]:
        """A row with its attempts."""
        answer = self.api("GET", f"/api/report-queue/{queue_id}/")
        assert answer.status == 200, answer.body
        item: dict[str, Any] = answer.json()
        return item

    def items(self) -> list[dict[str, Any]]:
        """The first page of all rows."""
        answer = self.api("GET", "/api/report-queue/?processed=any")
        assert answer.status == 200, answer.body
        page: list[dict[str, Any]] = answer.json()["queue"]
        return page

    def graphql(self, query: str, **variables: Any) -> Any:
        """Data from Dagster's UI."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        answer = http("POST", f"{self.dagster}/graphql", body, **{"Content-Type": "application/json"})
        assert answer.status == 200, answer.body
        document = answer.json()
        assert "errors" not in document, document["errors"]
        return document["data"]

    def manage(self, *command: str) -> str:
        """The output of `manage.py` beside the demo: it finds what it needs in the demo's file."""
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=clean_environment(REPORTQUEUE_DATA_DIR=str(self.data)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def children(self, text: str) -> list[psutil.Process]:
        """The processes that it has started itself and whose command contains a text."""
        return [child for child in psutil.Process(self.process.pid).children() if text in _command_of(child)]

    def clean_up(self) -> None:
        """End it, whatever the test has left; SIGKILL for what should not be there any more."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(2 * STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in processes_on(self.data):
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def the_line(text: str) -> str:
    """A complaint, which is one line."""
    lines = text.splitlines()
    assert len(lines) == 1, f"one line was to be said, not {lines}"
    return lines[0]
