"""The processes of the main job: the web app, the scheduler, and Dagster's code server, daemon and UI."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from project.environment import BASE_DIR
from project.runner import leftovers
from project.runner.postgres import for_dagster
from project.runner.processes import Children

BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
REQUEST_SECONDS = 2.0
"""The longest that anything here is waited for; so that a signal is soon noticed."""
DEMO_LOCATION = "orchestrator.definitions"


@dataclass(frozen=True)
class System:
    """On one machine, with its state in `folder`; databases and secrets come from the environment."""

    children: Children
    folder: Path
    web_port: int
    ui_port: int

    def environment(self, url: str, dagster_url: str) -> dict[str, str]:
        """What the processes need to find each other and the two databases; the rest is the caller's."""
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST]))
        return {
            "DATABASE_URL": url,
            "DAGSTER_DATABASE_URL": for_dagster(dagster_url),
            "DAGSTER_URL": f"http://{HOST}:{self.ui_port}",
            "REPORTQUEUE_URL": f"http://{HOST}:{self.web_port}",
            "REPORTQUEUE_DATA_DIR": str(self.folder),
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DAGSTER_HOME": str(self.folder / "dagster"),
            "MPLCONFIGDIR": str(self.folder / "matplotlib"),
            # dagster.yaml names classes of `orchestrator`, which is not installed here.
            "PYTHONPATH": str(BASE_DIR),
            "PYTHONUNBUFFERED": "1",
            leftovers.MARK: str(self.folder),
            "no_proxy": direct,
            "NO_PROXY": direct,
        }

    def prepare(self, environment: Mapping[str, str], dagster_yaml: str) -> None:
        """Migrate both databases, and load the demo's users and schedules where they are missing."""
        home = Path(environment["DAGSTER_HOME"])
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text(dagster_yaml)
        # Dagster's processes would all migrate an empty database at once, and trip over each other.
        dagster_command = [str(BIN / "dagster"), "instance", "migrate"]
        dagster = self.children.start("dagster-migrate", dagster_command, environment, passing=True)
        self.children.run("migrate", [sys.executable, "manage.py", "migrate", "--no-input"], environment)
        # Nothing is told to Dagster: it does not run yet.
        told = {**environment, "DAGSTER_URL": ""}
        self.children.run("load_demo", [sys.executable, "manage.py", "load_demo"], told)
        self.children.finish(dagster)

    def start(self, environment: Mapping[str, str], *, location: str = DEMO_LOCATION) -> None:
        """Start everything, and wait until it answers. Raises `ChildFailed`, or `Stopped`."""
        start, wait_until = self.children.start, self.children.wait_until
        code_port = free_port()
        workspace = Path(environment["DAGSTER_HOME"]) / "workspace.yaml"
        workspace.write_text(
            f"load_from:\n  - grpc_server: {{host: {HOST}, port: {code_port}, location_name: orchestrator}}\n"
        )
        # Runs give their rows back to the web app when they are stopped: it goes after them.
        web = start("web", gunicorn(self.web_port), environment, stop_round=1)
        code_command = [str(BIN / "dagster"), "api", "grpc", "-m", location, "-h", HOST, "-p", str(code_port)]
        code = start("dagster-code", code_command, environment)
        web_url, ui_url = environment["REPORTQUEUE_URL"], environment["DAGSTER_URL"]
        wait_until("The web app", lambda: _answers(f"{web_url}/healthz"), web)
        scheduler = start("scheduler", [sys.executable, "manage.py", "enqueue_due_reports", "--loop"], environment)
        wait_until("Dagster's code server", lambda: _accepts(code_port), code)
        daemon_began = time.time()
        daemon = start("dagster-daemon", [str(BIN / "dagster-daemon"), "run", "-w", str(workspace)], environment)
        ui_command = [str(BIN / "dagster-webserver"), "-w", str(workspace), "-h", HOST, "-p", str(self.ui_port)]
        ui = start("dagster-webserver", ui_command, environment)
        wait_until("Dagster's UI", lambda: _answers(f"{ui_url}/server_info"), ui)
        wait_until("Dagster's daemon", lambda: _daemon_is_up(ui_url, daemon_began), daemon)
        wait_until("The scheduler", lambda: _answers(f"{web_url}/readyz"), scheduler)

    def stop(self) -> None:
        """End everything, within 10 s: Dagster and the scheduler, the web app, and PostgreSQL if it is a child."""
        self.children.stop_all(3.5, 1.5, 1.7)
        leftovers.end(leftovers.of_demo(self.folder), ask=signal.SIGKILL, seconds=0.5)  # who has left its process group


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


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(url: str, body: bytes | None = None, accept: Callable[[bytes], bool] = lambda answer: True) -> bool:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
            return accept(answer.read())
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return False


def _daemon_is_up(ui_url: str, since: float) -> bool:
    """Whether the daemon has given a sign of life since a time; its last one may be that of an earlier demo."""
    query = '{instance{daemonHealth{daemonStatus(daemonType:"SENSOR"){healthy lastHeartbeatTime}}}}'

    def healthy(answer: bytes) -> bool:
        status = json.loads(answer)["data"]["instance"]["daemonHealth"]["daemonStatus"]
        return bool(status["healthy"] and status["lastHeartbeatTime"] >= since)

    return _answers(f"{ui_url}/graphql", json.dumps({"query": query}).encode(), healthy)
