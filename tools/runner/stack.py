"""The processes of a whole installation on one machine, for the demo and the benchmarks."""

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
CELERY_YAML = BASE_DIR / "deploy" / "celery" / "dagster.yaml"
CODE = "orchestrator.definitions"
REQUEST_SECONDS = 2.0
"""Timeout of a request; short, so that a signal is noticed soon."""


def environment(data: Path, dagster_url: str) -> dict[str, str]:
    """The environment of every process, without secrets and addresses; `dagster_url` is Dagster's database."""
    return {
        leftovers.MARK: str(data),
        "REPORTQUEUE_DATA_DIR": str(data),
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DAGSTER_DATABASE_URL": for_dagster(dagster_url),
        "DAGSTER_HOME": str(data / "dagster"),
        "MPLCONFIGDIR": str(data / "matplotlib"),
        # dagster.yaml names classes of `dagster_reportqueue`, which is not installed in the environment.
        "PYTHONPATH": str(BASE_DIR),
        "PYTHONUNBUFFERED": "1",
    }


class Stack:
    """Starts each process as one of `children`; `code` is the code location's module."""

    def __init__(self, children: Children, environment: Mapping[str, str], *, code: str = CODE) -> None:
        self._children = children
        self._environment = environment
        self._code = code
        self._code_port: int | None = None
        self._home = Path(environment["DAGSTER_HOME"])

    def migrate(self, dagster_yaml: str) -> None:
        """Create Dagster's home with this dagster.yaml, and migrate both databases."""
        self._home.mkdir(exist_ok=True)
        (self._home / "dagster.yaml").write_text(dagster_yaml)
        # Otherwise all of Dagster's processes would migrate an empty database at the same time, and fail.
        command = [str(BIN / "dagster"), "instance", "migrate"]
        dagster = self._children.start("dagster-migrate", command, self._environment, passing=True)
        self.manage("migrate", "--no-input")
        self.manage("load_demo")
        self._children.finish(dagster)

    def manage(self, command: str, *arguments: str) -> None:
        """Run a command of `manage.py`; it does not notify Dagster, which is not started yet."""
        environment = {**self._environment, "DAGSTER_URL": ""}
        self._children.run(command, [sys.executable, "manage.py", command, *arguments], environment)

    def start_web(self, port: int) -> Child:
        """Start the web app on a port."""
        # Stop the web app after the runs, because stopped runs return their rows to it.
        return self._children.start("web", gunicorn(port), self._environment, stop_round=1)

    def start_scheduler(self) -> Child:
        """Start the scheduler, which queues due reports."""
        command = [sys.executable, "manage.py", "enqueue_due_reports", "--loop"]
        return self._children.start("scheduler", command, self._environment)

    def start_code(self) -> Child:
        """Start Dagster's code server on a free port, and write that port for the other processes."""
        self._code_port = self._code_port or free_port()
        (self._home / "workspace.yaml").write_text(
            f"load_from:\n  - grpc_server: {{host: {HOST}, port: {self._code_port}, location_name: orchestrator}}\n"
        )
        place = ["-m", self._code, "-h", HOST, "-p", str(self._code_port)]
        return self._children.start("dagster-code", [str(BIN / "dagster"), "api", "grpc", *place], self._environment)

    def start_daemon(self) -> Child:
        """Start Dagster's daemon; the code server must answer already."""
        command = [str(BIN / "dagster-daemon"), "run", "-w", str(self._home / "workspace.yaml")]
        return self._children.start("dagster-daemon", command, self._environment)

    def start_ui(self, port: int) -> Child:
        """Start Dagster's web server on a port."""
        place = ["-w", str(self._home / "workspace.yaml"), "-h", HOST, "-p", str(port)]
        return self._children.start("dagster-webserver", [str(BIN / "dagster-webserver"), *place], self._environment)

    def start_celery_worker(self, name: str) -> Child:
        """Start a Celery worker that makes two reports at once; each worker needs a name of its own."""
        return self._children.start(f"celery-{name}", celery_worker(f"{name}@%h", 2), self._environment)

    def code_accepts(self) -> bool:
        """Whether the code server accepts connections."""
        try:
            socket.create_connection((HOST, self._code_port), timeout=1).close()
        except OSError:
            return False
        return True


def gunicorn(port: int) -> list[str]:
    """The command of the web app."""
    settings = ("-c", "python:reportqueue.gunicorn", "--bind", f"{HOST}:{port}", "--no-control-socket")
    return [str(BIN / "gunicorn"), *settings, "project.wsgi:application"]


def celery_worker(
    name: str, concurrency: int, app: str = "dagster_reportqueue.celery_worker", *, always: bool = False
) -> list[str]:
    """The command of a Celery worker. It ends when the code has changed, and is started again, as systemd does.

    With `always` it is started again after an error, too.
    """
    options = ["--hostname", name, "--concurrency", str(concurrency), "--loglevel", "info"]
    again = 'while :; do "$@"; sleep 1; done' if always else 'while "$@"; do :; done'
    return ["sh", "-c", again, "sh", str(BIN / "celery"), "-A", app, "worker", *options]


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str, body: bytes | None = None, accept: Callable[[bytes], bool] = lambda answer: True) -> bool:
    """Whether a URL answers and `accept` returns True for the answer; a `body` is posted as JSON."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
            return accept(answer.read())
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return False
