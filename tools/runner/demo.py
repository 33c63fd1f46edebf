"""`run.py demo`: runs the whole installation on this machine, from the first request to the finished report."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import time
import traceback
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import psycopg

from project.environment import DATA_DIR, DEMO_FILE, database
from reportqueue import credentials
from tools.runner import broker, django_setup, leftovers, stop_signals
from tools.runner.postgres import EmbeddedPostgres, create_database, with_database
from tools.runner.processes import ChildFailed, Children
from tools.runner.stack import CELERY_YAML, DAGSTER_YAML, HOST, Stack, answers
from tools.runner.stack import environment as common_environment
from tools.runner.stop_signals import Stopped

LOGS = DATA_DIR / "logs"
CELERY_WORKERS = ("one", "two")
PRIVATE = (LOGS.name, "artifacts", "dagster", "mail")
"""Folders that other users of the machine may not enter: parameters, errors and reports are in them."""


def run(arguments: Namespace) -> int:
    """Run the demo; returns 0 if a person stopped it, or if every report of `--once` succeeded."""
    try:
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        for name in PRIVATE:
            _make_private(DATA_DIR / name)
        lock = (DATA_DIR / "demo.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"error: another demo is running on {DATA_DIR}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or DATA_DIR}: {error.strerror or error}", file=sys.stderr)
        return 1
    with lock:
        return _run(arguments)


def _run(arguments: Namespace) -> int:
    demo = Demo(arguments)
    try:
        return demo.run()
    except Stopped:
        print("\nStopping ...", flush=True)
        return 130 if arguments.once else 0
    except ChildFailed as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:
        log = LOGS / "demo.log"
        with suppress(OSError):
            log.write_text(traceback.format_exc())
        first_line = (str(error).strip().splitlines() or ["no message"])[0]
        print(f"error: {type(error).__name__}: {first_line}; see {log}", file=sys.stderr)
    finally:
        demo.stop()
    return 1


class Demo:
    """The processes of one demo."""

    def __init__(self, arguments: Namespace) -> None:
        self._arguments = arguments
        self._children = Children(LOGS)
        self._with_celery = arguments.engine == "celery"
        self._postgres: EmbeddedPostgres | None = None

    def run(self) -> int:
        """Start everything and show the queue until a signal, the death of a child, or the end of `--once`."""
        began = time.monotonic()
        _end_leftovers()
        for option, port in (
            ("--port", self._arguments.port),
            ("--dagster-port", self._arguments.dagster_port),
        ):
            _require_free(port, option)
        environment = self._environment()
        if self._with_celery:
            environment |= {"CODE_VERSION": "demo", **broker.start(DATA_DIR, self._children, environment)}
        os.environ.update(environment)
        _say("Migrating the databases")
        stack = Stack(self._children, environment)
        stack.migrate((CELERY_YAML if self._with_celery else DAGSTER_YAML).read_text())
        if not (self._arguments.once or self._arguments.no_history):
            stack.manage("fill_history", "--if-empty")
        django_setup.set_up()
        from tools.runner import demo_once, demo_pattern, demo_watch

        wanted = self._arguments.pattern
        environment["REPORT_TRIGGER_PATTERN"] = ",".join(demo_pattern.served_for(wanted))
        self._start(stack)
        demo_pattern.give_to(wanted)
        print(f"Everything answers after {time.monotonic() - began:.0f} s.\n", flush=True)
        self._print_table(environment)
        if self._arguments.once:
            return demo_once.run(self._children.check, environment, self._arguments.timeout)
        demo_watch.show(self._children.check)
        return 0

    def stop(self) -> None:
        """End all started processes within 10 s."""
        self._children.stop_all(3.5, 1.5, 1.7)
        leftovers.end(
            leftovers.of_demo(DATA_DIR), ask=signal.SIGKILL, seconds=0.5
        )  # processes that have left their process group
        if self._postgres is not None:
            self._postgres.close()

    def _environment(self) -> dict[str, str]:
        url, dagster_url = self._databases()
        addresses = {
            "DATABASE_URL": url,
            "DAGSTER_URL": f"http://{HOST}:{self._arguments.dagster_port}",
            "REPORTQUEUE_URL": f"http://{HOST}:{self._arguments.port}",
            # The demo's webhooks go to a receiver of its own, on this machine.
            "WEBHOOK_ALLOW_HTTP": "1",
            "WEBHOOK_ALLOWED_NETWORKS": HOST,
        }
        # Only this machine reaches the demo.
        metrics = {} if os.environ.get("METRICS_TOKEN") else {"METRICS_OPEN": "1"}
        kept = {**_secrets(), **addresses, **metrics}
        _write_privately(DEMO_FILE, json.dumps(kept, indent=1))
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST]))
        return {
            # The environment overrides these defaults, but not the addresses of this demo.
            "RETRY_BACKOFF_SECONDS": "5",
            "CRON_SENSOR_INTERVAL": "5",
            # A waiting sensor occupies a worker; the default would be six on two cores.
            "DAGSTER_GRPC_MAX_WORKERS": "16",
            **os.environ,
            **kept,
            **common_environment(DATA_DIR, dagster_url),
            "no_proxy": direct,
            "NO_PROXY": direct,
        }

    def _databases(self) -> tuple[str, str]:
        """Create Django's and Dagster's databases if they are missing; return their URLs."""
        url = os.environ.get("DATABASE_URL")
        if not url:
            _say("Starting PostgreSQL")
            self._postgres = EmbeddedPostgres(DATA_DIR, self._children)
            url = self._postgres.start()
        try:
            dagster_url = os.environ.get("DAGSTER_DATABASE_URL") or with_database(url, f"{_name(url)}_dagster")
            for one in (url, dagster_url):
                create_database(one)
        except (ValueError, psycopg.Error) as error:
            stop_signals.check()
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ChildFailed(f"the database of DATABASE_URL cannot be used: {first_line}") from None
        return url, dagster_url

    def _start(self, stack: Stack) -> None:
        _say("Starting the web app, the scheduler and Dagster")
        web_port, ui_port, wait_until = self._arguments.port, self._arguments.dagster_port, self._children.wait_until
        web, code = stack.start_web(web_port), stack.start_code()
        wait_until("The web app", lambda: answers(f"http://{HOST}:{web_port}/healthz"), web)
        scheduler = stack.start_scheduler()
        if self._with_celery:
            self._start_celery_workers(stack)
        wait_until("Dagster's code server", stack.code_accepts, code)
        daemon_began = time.time()
        daemon, ui = stack.start_daemon(), stack.start_ui(ui_port)
        ui_url = f"http://{HOST}:{ui_port}"
        wait_until("Dagster's UI", lambda: answers(f"{ui_url}/server_info"), ui)
        wait_until("Dagster's daemon", lambda: _daemon_is_up(ui_url, daemon_began), daemon)
        wait_until("The scheduler", lambda: _nothing_is_overdue(web_port), scheduler)

    def _start_celery_workers(self, stack: Stack) -> None:
        logs = {name: self._children.log(f"celery-{name}") for name in CELERY_WORKERS}
        sizes = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
        for name, worker in [(name, stack.start_celery_worker(name)) for name in CELERY_WORKERS]:
            self._children.wait_until(
                f"The Celery worker {name}",
                lambda name=name: b" ready." in logs[name].read_bytes()[sizes[name] :],  # type: ignore[misc]
                worker,
            )

    def _print_table(self, environment: dict[str, str]) -> None:
        web = environment["REPORTQUEUE_URL"]
        rows = {
            "Queue (admin)": f"{web}/admin/reportqueue/reportqueue/",
            "Schedules (admin)": f"{web}/admin/reportqueue/reportschedule/",
            "API": f"{web}/api/report-queue/",
            "Metrics": f"{web}/metrics",
            "Dagster": environment["DAGSTER_URL"],
            "Sensors": environment["REPORT_TRIGGER_PATTERN"].replace(",", ", "),
            **({"Celery workers": ", ".join(CELERY_WORKERS)} if self._with_celery else {}),
            "Login": f"admin / {environment['ADMIN_PASSWORD']}",
            "Logs": str(LOGS),
            "Webhooks received": str(LOGS / "webhooks.jsonl"),
            "Mail of alerts": str(DATA_DIR / "mail"),
        }
        for name, value in rows.items():
            print(f"  {name:<18} {value}")
        print(flush=True)


def _nothing_is_overdue(web_port: int) -> bool:
    """Whether the scheduler has done what fell due while the demo was stopped."""
    url = f"http://{HOST}:{web_port}/status"
    return answers(url, accept=lambda answer: json.loads(answer)["overdue_schedules"] == 0)


def _end_leftovers() -> None:
    """End the processes that a killed demo on the same data has left: they hold ports and the database."""
    processes = leftovers.of_demo(DATA_DIR)
    servers = leftovers.of_postgres(DATA_DIR / "postgres")
    if processes or servers:
        _say(f"Ending {len(processes) + len(servers)} processes that a killed demo has left")
        leftovers.end(processes, ask=signal.SIGTERM, seconds=4)
        leftovers.end(servers, ask=signal.SIGINT, seconds=10)


def _secrets() -> dict[str, str]:
    """The secrets: from the environment, else from an earlier demo on the same data, else new ones."""
    try:
        stored = dict(json.loads(DEMO_FILE.read_text()))
    except (OSError, ValueError, TypeError):
        stored = {}
    new = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ADMIN_PASSWORD": secrets.token_urlsafe(9),
        "REPORTQUEUE_TOKEN": credentials.new_key(),
    }
    if credentials.identifier_of(str(stored.get("REPORTQUEUE_TOKEN"))) is None:
        stored.pop("REPORTQUEUE_TOKEN", None)  # by an earlier version, which had tokens of another form
    return {name: os.environ.get(name) or str(stored.get(name) or value) for name, value in new.items()}


def _make_private(folder: Path) -> None:
    """Create the folder, or close one of an earlier demo: only its owner may enter it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def _write_privately(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner may read it."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ChildFailed(f"port {port} cannot be used ({error.strerror}); choose another with {option}") from None


def _daemon_is_up(ui_url: str, since: float) -> bool:
    """Whether the daemon has sent a heartbeat since `since`; an older one may come from an earlier demo."""
    query = '{instance{daemonHealth{daemonStatus(daemonType:"SENSOR"){healthy lastHeartbeatTime}}}}'

    def healthy(answer: bytes) -> bool:
        status = json.loads(answer)["data"]["instance"]["daemonHealth"]["daemonStatus"]
        return bool(status["healthy"] and status["lastHeartbeatTime"] >= since)

    return answers(f"{ui_url}/graphql", json.dumps({"query": query}).encode(), healthy)


def _name(url: str) -> str:
    """The database name in a URL. Raises `ValueError` for a URL that Django cannot use."""
    return str(database(url)["NAME"])


def _say(text: str) -> None:
    print(f"{text} ...", flush=True)
