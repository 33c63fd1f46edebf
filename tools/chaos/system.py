"""The system under test, every part a real process in a temporary folder, and every part to be killed and restarted."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import psycopg
from psycopg.rows import dict_row

from project.environment import BASE_DIR
from reportqueue import credentials
from tools.chaos.engine import Engine
from tools.chaos.engines import ENGINES
from tools.chaos.ledger import Ledger
from tools.chaos.proxy import Proxy
from tools.chaos.rules import ChaosRules
from tools.runner import leftovers, stop_signals
from tools.runner.postgres import EmbeddedPostgres, create_database, for_dagster, with_database
from tools.runner.processes import Child, Children
from tools.runner.stack import free_port, gunicorn

BIN = Path(sys.executable).parent
SCHEDULER = "chaos-scheduler"
MANAGE = [sys.executable, "manage.py"]
DAGSTER_YAML = """\
storage: {postgres: {postgres_url: {env: DAGSTER_DATABASE_URL}}}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
run_launcher: %s
compute_logs: {module: dagster.core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
telemetry: {enabled: false}
"""


class Part:
    """A process group that may be killed and started again; its log goes on."""

    def __init__(self, name: str, logs: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name, self._logs, self._command, self._environment = name, logs, command, environment
        self.log = logs / f"{name}.log"
        self._children: Children | None = None
        self.child: Child | None = None

    def start(self, ready: Callable[[], bool] | None = None) -> None:
        """Start it, and wait until it is ready."""
        self._children = Children(self._logs)
        self.child = self._children.start(self._name, self._command, self._environment)
        if ready is not None:
            self._children.wait_until(self._name, ready, self.child)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self._children is not None:
            self._children.stop_all(0)
            self._children = self.child = None


class Postgres:
    """The embedded server, restarted on the same data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: Children | None = None
        self._server: EmbeddedPostgres | None = None

    def start(self) -> str:
        """The URL of Django's database."""
        self._children = Children(self._folder / "logs")
        # Without fsync: processes die here, the machine does not, and its kernel keeps what was written.
        self._server = EmbeddedPostgres(self._folder, self._children, durable=False)
        return self._server.start()

    def stop(self, how: signal.Signals) -> None:
        """SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        for process in leftovers.of_postgres(self._folder / "postgres"):
            process.send_signal(how)
            process.wait(30) if how != signal.SIGQUIT else None
        if self._children is not None and self._server is not None:
            self._children.stop_all(0, 0, 10)
            self._server.close()
            self._children = None


class System:
    """Everything, and what a harness asks of it."""

    def __init__(self, folder: Path, chance: Any, engine: str) -> None:
        self.folder = folder
        self.chance = chance
        self.ledger_path = folder / "ledger.jsonl"
        self.ledger = Ledger(self.ledger_path)
        self.rules = ChaosRules(self.ledger, chance)
        self.postgres = Postgres(folder)
        self.port = free_port()
        self.proxy = Proxy(self.port, self.rules)
        self.rules.proxy = self.proxy
        self.engine: Engine = ENGINES[engine](self)
        self._parts: list[Part] = []
        self._token = credentials.new_key()
        self.url = self._dagster_url = ""

    def start(self) -> None:
        """Bring everything up but the daemons' lives, which are the waves' business."""
        self.url = self.postgres.start()
        self._dagster_url = with_database(self.url, "reportqueue_dagster")
        create_database(self._dagster_url)
        self.proxy.start()
        environment = self._environment()
        os.environ |= {"CHAOS_WARM": environment["CHAOS_WARM"]}  # for `launcher.ask`
        logs = self.folder / "logs"
        home = Path(environment["DAGSTER_HOME"])
        home.mkdir()
        environment |= self.engine.prepare(environment)
        (home / "dagster.yaml").write_text(DAGSTER_YAML % self.engine.launcher)
        children = Children(logs)
        dagster = children.start(
            "dagster-migrate", [sys.executable, "-m", "dagster", "instance", "migrate"], environment, passing=True
        )
        children.run("migrate", [*MANAGE, "migrate", "--no-input"], environment)
        children.finish(dagster)
        self.warm = self.part("warm", [sys.executable, "-m", "tools.chaos.warm"], environment)
        self.warm.start()
        self._make_token()
        self.web = self.part("web", gunicorn(self.port), environment)
        self.start_web()
        self.scheduler = self.part(
            "scheduler",
            [*MANAGE, "enqueue_due_reports", "--loop", "--interval", "0.2"],
            {**environment, "PGAPPNAME": SCHEDULER},  # by which its sessions are known
        )
        wait_until(Path(environment["CHAOS_WARM"]).exists, 120, "the warm parent")
        self.engine.start(environment)

    def stop(self) -> None:
        """End everything."""
        for part in reversed(self._parts):
            part.kill()
        self.engine.close()
        self.proxy.close()
        self.postgres.stop(signal.SIGQUIT)

    def start_web(self) -> None:
        """Until it answers."""
        self.web.start(lambda: self._answers("/healthz"))

    def kill_web_worker(self) -> None:
        """Only gunicorn's worker: its master starts another."""
        assert self.web.child is not None
        for process in psutil.Process(self.web.child.process.pid).children():
            process.kill()
        wait_until(lambda: self._answers("/healthz"), 60, "the web app")

    def enqueue(self, reports: Sequence[Mapping[str, Any]], url: str | None = None) -> list[int]:
        """Rows for reports, over the API; their ids."""
        return [item["queue_id"] for item in self.call("POST", "/api/report-queue/", list(reports), url)]

    def call(self, method: str, path: str, body: Any = None, url: str | None = None) -> Any:
        """One call to the API, directly unless a URL is given. Raises `OSError`."""
        try:
            with urllib.request.urlopen(self._request(method, path, body, url), timeout=10) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPException as error:
            raise OSError(str(error)) from None

    def answer(self, method: str, path: str, body: Any = None, *, seconds: float) -> tuple[int, Mapping[str, str]]:
        """The status and the headers of whatever the web app answers, directly. Raises `OSError` if it does not."""
        try:
            with urllib.request.urlopen(self._request(method, path, body), timeout=seconds) as answer:  # noqa: S310
                answer.read()
                return answer.status, answer.headers
        except HTTPError as refused:
            with refused:
                return refused.code, refused.headers
        except HTTPException as error:
            raise OSError(str(error)) from None

    def runs_of(self, rows: Sequence[int]) -> dict[int, int]:
        """How many runs Dagster has for each of these rows."""
        found = self._query(
            self._dagster_url,
            "SELECT value::int AS row, count(*) AS runs FROM run_tags WHERE key = 'reportqueue/queue_id'"
            " AND value::int = ANY(%s) GROUP BY value",
            [rows],
        )
        return dict.fromkeys(rows, 0) | {one["row"]: one["runs"] for one in found}

    def query(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """One statement in the queue's database, in a transaction of its own."""
        return self._query(self.url, statement, values)

    @staticmethod
    def _query(url: str, statement: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with psycopg.connect(url, autocommit=True, row_factory=dict_row, connect_timeout=5) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def _request(self, method: str, path: str, body: Any, url: str | None = None) -> urllib.request.Request:
        return urllib.request.Request(  # noqa: S310
            (url or f"http://127.0.0.1:{self.port}") + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self._token}", "Content-Type": "application/json"},
            method=method,
        )

    def _answers(self, path: str) -> bool:
        try:
            self.call("GET", path)
        except (OSError, ValueError):
            return False
        return True

    def part(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Part:
        """A process group that ends with the system; not started yet."""
        part = Part(name, self.folder / "logs", command, environment)
        self._parts.append(part)
        return part

    def _make_token(self) -> None:
        user = self.query(
            "INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email, is_staff,"
            " is_active, date_joined) VALUES ('', true, 'chaos', '', '', '', false, true, now()) RETURNING id"
        )[0]["id"]
        self.query(
            "INSERT INTO reportqueue_apitoken (name, identifier, digest, scopes, user_id)"
            " VALUES ('chaos', %s, %s, '[]', %s)",
            credentials.identifier_of(self._token),
            credentials.digest(self._token),
            user,
        )

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tools.chaos.settings",
            "DATABASE_URL": self.url,
            "DAGSTER_DATABASE_URL": for_dagster(self._dagster_url),
            "DAGSTER_HOME": str(self.folder / "dagster"),
            "REPORTQUEUE_URL": self.proxy.url,
            "REPORTQUEUE_TOKEN": self._token,
            "REPORTQUEUE_DATA_DIR": str(self.folder / "data"),
            "SECRET_KEY": secrets.token_urlsafe(40),
            "CHAOS_LEDGER": str(self.ledger_path),
            "CHAOS_WARM": str(self.folder / "warm.sock"),
            "CHAOS_WORKERS": str(self.engine.slots),
            # dagster.yaml and warm servers name modules that are not installed.
            "PYTHONPATH": str(BASE_DIR),
            "PYTHONUNBUFFERED": "1",
        }


def wait_until(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Raises `TimeoutError`, or `Stopped`."""
    until = time.monotonic() + seconds
    while not ready():
        stop_signals.check()
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def remove(folder: Path) -> None:
    """The temporary folder."""
    shutil.rmtree(folder, ignore_errors=True)
