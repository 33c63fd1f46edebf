"""The processes of a whole installation on one machine, as the demo and the tools.benchmarks run them."""

from __future__ import annotations

import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path

from project.environment import BASE_DIR
from tools.runner import leftovers
from tools.runner.postgres import for_dagster
from tools.runner.processes import Child, Children

BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
DAGSTER_YAML = BASE_DIR / "deploy" / "dagster.yaml"
CODE = "orchestrator.definitions"
REQUEST_SECONDS = 2.0
"""The longest that anything here is waited for; so that a signal is soon noticed."""


def environment(data: Path, dagster_url: str) -> dict[str, str]:
    """What every process is given, beside its secrets and addresses; `dagster_url` is that of Dagster's database."""
    return {
        leftovers.MARK: str(data),
        "REPORTQUEUE_DATA_DIR": str(data),
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DAGSTER_DATABASE_URL": for_dagster(dagster_url),
        "DAGSTER_HOME": str(data / "dagster"),
        "MPLCONFIGDIR": str(data / "matplotlib"),
        # dagster.yaml names classes of `dagster_reportqueue`, which is not installed here.
        "PYTHONPATH": str(BASE_DIR),
        "PYTHONUNBUFFERED": "1",
    }


class Stack:
    """Starts each process as one of `children`; `code` is the module of the code location."""

    def __init__(self, children: Children, environment: Mapping[str, str], *, code: str = CODE) -> None:
        self._children = children
        self._environment = environment
        self._code = code
        self._code_port: int | None = None
        self._home = Path(environment["DAGSTER_HOME"])

    def migrate(self, dagster_yaml: str) -> None:
        """Make Dagster's home with these settings, and bring both databases up to date."""
        self._home.mkdir(exist_ok=True)
        (self._home / "dagster.yaml").write_text(dagster_yaml)
        # Dagster's processes would all migrate an empty database at once, and trip over each other.
        command = [str(BIN / "dagster"), "instance", "migrate"]
        dagster = self._children.start("dagster-migrate", command, self._environment, passing=True)
        self.manage("migrate", "--no-input")
        self.manage("load_demo")
        self._children.finish(dagster)

    def manage(self, command: str, *arguments: str) -> None:
        """Run a command of `manage.py` to its end, before there is a Dagster that could be told of changes."""
        environment = {**self._environment, "DAGSTER_URL": ""}
        self._children.run(command, [sys.executable, "manage.py", command, *arguments], environment)

    def start_web(self, port: int) -> Child:
        """The web app, at a port."""
        # Runs give their rows back to the web app when they are stopped: it goes after them.
        return self._children.start("web", gunicorn(port), self._environment, stop_round=1)

    def start_scheduler(self) -> Child:
        """What queues the reports that are due."""
        command = [sys.executable, "manage.py", "enqueue_due_reports", "--loop"]
        return self._children.start("scheduler", command, self._environment)

    def start_code(self) -> Child:
        """Dagster's code server, at a port of its own, which the others are told."""
        self._code_port = self._code_port or free_port()
        (self._home / "workspace.yaml").write_text(
            f"load_from:\n  - grpc_server: {{host: {HOST}, port: {self._code_port}, location_name: orchestrator}}\n"
        )
        place = ["-m", self._code, "-h", HOST, "-p", str(self._code_port)]
        return self._children.start("dagster-code", [str(BIN / "dagster"), "api", "grpc", *place], self._environment)

    def start_daemon(self) -> Child:
        """Dagster's daemon, once the code server answers."""
        command = [str(BIN / "dagster-daemon"), "run", "-w", str(self._home / "workspace.yaml")]
        return self._children.start("dagster-daemon", command, self._environment)

    def start_ui(self, port: int) -> Child:
        """Dagster's web server, at a port."""
        place = ["-w", str(self._home / "workspace.yaml"), "-h", HOST, "-p", str(port)]
        return self._children.start("dagster-webserver", [str(BIN / "dagster-webserver"), *place], self._environment)

    def code_accepts(self) -> bool:
        """Whether the code server may be talked to."""
        try:
            socket.create_connection((HOST, self._code_port), timeout=1).close()
        except OSError:
            return False
        return True


def gunicorn(port: int) -> list[str]:
    """The command of the web app."""
    # One thread for each request at a time: a claim that waits for reports holds one.
    return [
        *(str(BIN / "gunicorn"), "project.wsgi:application", "--bind", f"{HOST}:{port}"),
        *("--worker-class", "gthread", "--workers", "1", "--threads", "16", "--graceful-timeout", "1"),
        "--no-control-socket",
    ]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str, body: bytes | None = None, accept: Callable[[bytes], bool] = lambda answer: True) -> bool:
    """Whether an address answers, and with what `accept` takes; a `body` is posted to it, as JSON."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
            return accept(answer.read())
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return False
