"""`run.py demo`: everything on one machine, with real components, from the first request to the finished report."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import psycopg

from project.environment import DATA_DIR, DEMO_FILE
from project.runner.postgres import EmbeddedPostgres, create_database, for_dagster, with_database
from project.runner.processes import Child, ChildFailed, Children
from project.runner.venv import ROOT

BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
LOGS = DATA_DIR / "logs"
GRACE_SECONDS = 4.0
"""For each of the two rounds of stopping; with PostgreSQL's own end, all is over within 10 s."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


def run(arguments: Namespace) -> int:
    """The demo's exit code: 0 if it was stopped by a person, or if `--once` saw every report succeed."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    with (DATA_DIR / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"error: another demo is running on {DATA_DIR}", file=sys.stderr)
            return 1
        demo = Demo(arguments)
        try:
            return demo.run()
        except Stopped:
            print("\nStopping ...", flush=True)
            return 130 if arguments.once else 0
        except (ChildFailed, psycopg.Error, OSError) as error:
            print(f"error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
            return 1
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave orphans
            demo.stop()


class Demo:
    """The processes of one demo."""

    def __init__(self, arguments: Namespace) -> None:
        self._arguments = arguments
        self._children = Children(LOGS)
        self._postgres: EmbeddedPostgres | None = None
        self._web: list[Child] = []

    def run(self) -> int:
        """Start, show, and go on until stopped, a child dies, or `--once` is done."""
        began = time.monotonic()
        for option, port in (
            ("--port", self._arguments.port),
            ("--dagster-port", self._arguments.dagster_port),
        ):
            _require_free(port, option)
        environment = self._environment()
        os.environ.update(environment)
        self._prepare(environment)
        self._start(environment)
        print(f"Everything answers after {time.monotonic() - began:.0f} s.\n", flush=True)
        self._print_table(environment)
        from project.runner import watch

        if self._arguments.once:
            return watch.once(self._children.check, environment, self._arguments.timeout)
        watch.show(self._children.check)
        return 0

    def stop(self) -> None:
        """End everything that was started; runs give their rows back to the web app, so it goes last."""
        self._children.stop_all(last=self._web, seconds=GRACE_SECONDS)
        if self._postgres is not None:
            self._postgres.stop()

    def _environment(self) -> dict[str, str]:
        _say("Starting PostgreSQL")
        url = os.environ.get("DATABASE_URL")
        if url is None:
            self._postgres = EmbeddedPostgres(DATA_DIR)
            url = self._postgres.start()
        else:
            create_database(url)
        dagster_url = os.environ.get("DAGSTER_DATABASE_URL") or with_database(url, f"{url_name(url)}_dagster")
        create_database(dagster_url)
        kept = {
            **{name: secrets.token_urlsafe(size) for name, size in (("SECRET_KEY", 48), ("ADMIN_PASSWORD", 9))},
            "REPORTQUEUE_TOKEN": secrets.token_hex(20),
            **_stored(),
            "DATABASE_URL": url,
            "DAGSTER_URL": f"http://{HOST}:{self._arguments.dagster_port}",
            "REPORTQUEUE_URL": f"http://{HOST}:{self._arguments.port}",
        }
        with os.fdopen(os.open(DEMO_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file, indent=1)
        return {
            # Whoever sets a variable means it; but the addresses are those of this demo.
            "RETRY_BACKOFF_SECONDS": "5",
            **os.environ,
            **kept,
            "REPORTQUEUE_DATA_DIR": str(DATA_DIR),
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DAGSTER_DATABASE_URL": for_dagster(dagster_url),
            "DAGSTER_HOME": str(DATA_DIR / "dagster"),
            "MPLCONFIGDIR": str(DATA_DIR / "matplotlib"),
            "PYTHONUNBUFFERED": "1",
        }

    def _prepare(self, environment: dict[str, str]) -> None:
        home = Path(environment["DAGSTER_HOME"])
        home.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")
        _say("Migrating the databases")
        self._children.run("migrate", [sys.executable, "manage.py", "migrate", "--no-input"], environment)
        self._children.run("load_demo", [sys.executable, "manage.py", "load_demo"], environment)
        # Dagster's processes would all migrate an empty database at once, and trip over each other.
        self._children.run("dagster-migrate", [str(BIN / "dagster"), "instance", "migrate"], environment)

    def _start(self, environment: dict[str, str]) -> None:
        _say("Starting the web app, the scheduler and Dagster")
        start = self._children.start
        web_port, ui_port, code_port = self._arguments.port, self._arguments.dagster_port, _free_port()
        workspace = Path(environment["DAGSTER_HOME"]) / "workspace.yaml"
        workspace.write_text(
            f"load_from:\n  - grpc_server: {{host: {HOST}, port: {code_port}, location_name: orchestrator}}\n"
        )
        web = start("web", _gunicorn(web_port), environment)
        self._web = [web]
        code = start(
            "dagster-code",
            [
                str(BIN / "dagster"),
                "api",
                "grpc",
                "-m",
                "orchestrator.definitions",
                "-h",
                HOST,
                "-p",
                str(code_port),
            ],
            environment,
        )
        self._children.wait_until("The web app", lambda: _answers(f"http://{HOST}:{web_port}/healthz"), web)
        scheduler = start("scheduler", [sys.executable, "manage.py", "enqueue_due_reports", "--loop"], environment)
        self._children.wait_until("Dagster's code server", lambda: _accepts(code_port), code)
        daemon = start("dagster-daemon", [str(BIN / "dagster-daemon"), "run", "-w", str(workspace)], environment)
        ui_command = [str(BIN / "dagster-webserver"), "-w", str(workspace), "-h", HOST, "-p", str(ui_port)]
        ui = start("dagster-webserver", ui_command, environment)
        ui_url = f"http://{HOST}:{ui_port}"
        self._children.wait_until("Dagster's UI", lambda: _answers(f"{ui_url}/server_info"), ui)
        self._children.wait_until("Dagster's daemon", lambda: _daemon_is_healthy(ui_url), daemon)
        self._children.wait_until("The scheduler", lambda: _answers(f"http://{HOST}:{web_port}/readyz"), scheduler)

    def _print_table(self, environment: dict[str, str]) -> None:
        web = environment["REPORTQUEUE_URL"]
        rows = {
            "Queue (admin)": f"{web}/admin/reportqueue/reportqueue/",
            "Schedules (admin)": f"{web}/admin/reportqueue/reportschedule/",
            "API": f"{web}/api/report-queue/",
            "Dagster": environment["DAGSTER_URL"],
            "Login": f"admin / {environment['ADMIN_PASSWORD']}",
            "Logs": str(LOGS),
        }
        for name, value in rows.items():
            print(f"  {name:<18} {value}")
        print(flush=True)


def _gunicorn(port: int) -> list[str]:
    # One thread for each request at a time: a claim that waits for reports holds one.
    return [
        *(str(BIN / "gunicorn"), "project.wsgi:application", "--bind", f"{HOST}:{port}"),
        *("--worker-class", "gthread", "--workers", "1", "--threads", "16", "--graceful-timeout", "2"),
        "--no-control-socket",
    ]


def _stored() -> dict[str, str]:
    """The secrets of an earlier demo on the same data."""
    try:
        stored = json.loads(DEMO_FILE.read_text())
        return {name: str(stored[name]) for name in ("SECRET_KEY", "ADMIN_PASSWORD", "REPORTQUEUE_TOKEN")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ChildFailed(f"port {port} cannot be used ({error.strerror}); choose another with {option}") from None


def _free_port() -> int:
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
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return accept(answer.read())
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _daemon_is_healthy(ui_url: str) -> bool:
    query = '{instance{daemonHealth{daemonStatus(daemonType:"SENSOR"){healthy}}}}'
    body = json.dumps({"query": query}).encode()

    def healthy(answer: bytes) -> bool:
        data = json.loads(answer).get("data") or {}
        return bool(data["instance"]["daemonHealth"]["daemonStatus"]["healthy"]) if data else False

    return _answers(f"{ui_url}/graphql", body, healthy)


def url_name(url: str) -> str:
    """The name of a URL's database."""
    return url.partition("?")[0].rpartition("/")[2]


def _say(text: str) -> None:
    print(f"{text} ...", flush=True)
