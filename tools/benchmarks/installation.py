"""An installation to measure: the demo's processes with their own folders, ports and Dagster database."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from reportqueue import credentials
from tools.benchmarks import record
from tools.benchmarks.record import Line
from tools.runner.postgres import create_database, with_database
from tools.runner.processes import Child, Children
from tools.runner.stack import CODE as DEMO
from tools.runner.stack import DAGSTER_YAML, HOST, Stack, answers, environment, free_port

if TYPE_CHECKING:
    from reportqueue.queue import NewReport

FOLDER = "BENCHMARK_FOLDER"
"""The variable that names the folder of an installation, with its data and logs."""
REPORT_SECONDS = 120.0
STOP_SECONDS = (3.5, 1.5)
DAEMON_SECONDS = 12.0
"""A sensor that reads new rows must have had a first tick before the first row is committed."""
WARM_UPS = 3
AT_ONCE = 1_000
"""Reports enqueued in one call."""


class Installation:
    """A context in which the processes run; reports can be triggered as soon as it is entered."""

    def __init__(
        self,
        name: str,
        *,
        code: str,
        dagster_yaml: str | None = None,
        scheduler: bool = False,
        ui_port: int | None = None,
        warm_up: bool = True,
        **variables: str,
    ) -> None:
        """`code` is the module of the code location; `variables` are for its environment.

        `dagster_yaml` is Dagster's settings: those of the demo, if none are given, with this code loaded in advance.
        Without a port Dagster's web server is not started; `warm_up` has some reports made by the queue first.
        """
        self.data = data = Path(os.environ[FOLDER]) / name
        self._logs = data / "logs"
        self.children = Children(self._logs)
        self.record = data / "record.jsonl"
        self._yaml = dagster_yaml or DAGSTER_YAML.read_text().replace(DEMO, code)
        self._scheduler = scheduler
        self._ui_port = ui_port
        self._to_warm_up = warm_up
        self.port = free_port()
        self.dagster_url = with_database(os.environ["DATABASE_URL"], f"dagster_{name}")
        address = f"http://{HOST}:{self.port}"
        self.stack = Stack(
            self.children,
            {
                "DAGSTER_GRPC_MAX_WORKERS": "16",
                **os.environ,
                "SECRET_KEY": secrets.token_urlsafe(48),
                "ADMIN_PASSWORD": secrets.token_urlsafe(9),
                "REPORTQUEUE_TOKEN": credentials.new_key(),
                "REPORTQUEUE_URL": address,
                "no_proxy": HOST,
                "NO_PROXY": HOST,
                record.VARIABLE: str(self.record),
                **environment(data, self.dagster_url),
                **variables,
            },
            code=code,
        )

    def __enter__(self) -> Self:
        # End the processes as Ctrl-C does. They have their own sessions and would outlive this process.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        create_database(self.dagster_url)
        try:
            self.stack.migrate(self._yaml)
            self.web = self.start_web()
            self.code = self.start_code()
            self.daemon = self.stack.start_daemon()
            if self._scheduler:
                self.stack.start_scheduler()
            if self._ui_port is not None:
                self.start_ui(self._ui_port)
            time.sleep(DAEMON_SECONDS)
            if self._to_warm_up:
                self._warm_up()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        # A second SIGTERM must not interrupt the clean-up that the first one started.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self.children.stop_all(*STOP_SECONDS)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)

    def start_web(self) -> Child:
        """Start the web app and wait until it answers."""
        web = self.stack.start_web(self.port)
        self.children.wait_until("The web app", lambda: answers(f"http://{HOST}:{self.port}/healthz"), web)
        return web

    def start_code(self) -> Child:
        """Start Dagster's code server and wait until it answers."""
        code = self.stack.start_code()
        self.children.wait_until("Dagster's code server", self.stack.code_accepts, code)
        return code

    def start_ui(self, port: int) -> None:
        """Start Dagster's web server and wait until it answers."""
        ui = self.stack.start_ui(port)
        self.children.wait_until("Dagster's UI", lambda: answers(f"http://{HOST}:{port}/server_info"), ui)

    def enqueue(self, new: Sequence[NewReport]) -> list[int]:
        """Enqueue reports that are due at once; returns the ids of their rows."""
        from django.db import transaction

        from reportqueue import queue

        with transaction.atomic():
            return [
                done.row.pk
                for first in range(0, len(new), AT_ONCE)
                for done in queue.enqueue_many(new[first : first + AT_ONCE])
            ]

    def lines(self) -> list[Line]:
        """The lines that the reports have written so far."""
        return list(record.read(self.record))

    def wait_for(self, rows: Collection[int], seconds: float) -> list[Line]:
        """Wait until each of these rows has a line; returns the lines. Raises `ChildFailed` or `TimeoutError`."""
        wanted, until = set(rows), time.monotonic() + seconds
        while True:
            self.children.check()
            lines = [line for line in self.lines() if line.row in wanted]
            if {line.row for line in lines} == wanted:
                return lines
            if time.monotonic() > until:
                missing = len(wanted - {line.row for line in lines})
                raise TimeoutError(f"{missing} of {len(wanted)} reports were not made in {seconds:g} s: {self._logs}")
            time.sleep(0.2)

    def wait(self, seconds: float) -> None:
        """Wait for so long. Raises `ChildFailed` if a process ends meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.children.check()
            time.sleep(min(left, 0.2))

    def _warm_up(self) -> None:
        """Make reports until one is quick; the first ones wait for imports, connections and the daemon's first tick."""
        from reportqueue import queue

        for _ in range(WARM_UPS):
            self.wait_for([queue.enqueue(report_id=1, modifier_id=1).pk], REPORT_SECONDS)
