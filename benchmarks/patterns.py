"""The four patterns side by side: how late a firing's run is, what waiting costs, how many reports are too many.

The real processes, as the demo starts them, for each pattern in turn. Needs a database in DATABASE_URL and a server on
which it may make others; `run.py bench patterns` provides them. Exits 0 only if nothing was lost or made twice.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.noting import NOTES
from project.environment import BASE_DIR
from project.runner import leftovers, stopping
from project.runner.postgres import create_database, with_database
from project.runner.processes import ChildFailed, Children
from project.runner.system import System, free_port

PATTERNS = ("cron", "asset", "webhook", "queue")
REPORTS = (10, 100, 1_000, 10_000)
AT_LEAST = 10
"""Firings of a measured minute; of more reports, a sixtieth: each is due once an hour."""
MINUTES = 2
"""Measured, one after the other."""
IDLE_SECONDS = 60
SETTLE_SECONDS = 8
"""After the schedules are loaded, before it counts as idle."""
PATIENCE_SECONDS = 300
"""After the last instant, for what is late."""
KEPT_UP_SECONDS = 60.0
"""A firing that starts later than this has not begun before the next minute's are due."""
TRIVIAL = "benchmarks.noting"


@dataclass(frozen=True)
class Idle:
    """What a minute costs in which nothing is due."""

    requests: int
    statements: int
    dagster_statements: int
    cpu_seconds: float


@dataclass(frozen=True)
class Measured:
    """One pattern with one number of reports."""

    pattern: str
    reports: int
    firings: int
    created: list[float]
    """Seconds from the instant to the run's record in Dagster, one for each firing that got one."""
    started: list[float]
    """Seconds from the instant to the first line of report code."""
    twice: int
    idle: Idle

    @property
    def lost(self) -> int:
        return self.firings - len(self.started)

    @property
    def kept_up(self) -> bool:
        return not self.lost and max(self.started) <= KEPT_UP_SECONDS


def main() -> int:
    """Measure and print, a line for each pattern and number of reports."""
    stopping.listen()
    chosen = _arguments()
    print(_HEAD, flush=True)
    measured = []
    for pattern in chosen.pattern:
        with _running(pattern) as bench:
            for reports in chosen.reports:
                measured.append(bench.measure(reports))
                print(_line(measured[-1]), flush=True)
    print()
    for pattern in chosen.pattern:
        kept = [one.reports for one in measured if one.pattern == pattern and one.kept_up]
        print(f"{pattern:<8} kept up with {max(kept, default=0):,} reports of {max(chosen.reports):,}")
    lost, twice = sum(one.lost for one in measured), sum(one.twice for one in measured)
    print(f"\n{'holds ' if not lost + twice else 'MISSED'}  {lost} lost, {twice} made twice")
    return 1 if lost + twice else 0


_HEAD = (
    f"{'':<8} {'':>7} {'':>8} {'due to run created':>20} {'due to started':>20} {'in an idle minute':>42}\n"
    f"{'pattern':<8} {'reports':>7} {'firings':>8} {'median':>10} {'p95':>9} {'median':>10} {'p95':>9}"
    f" {'requests':>9} {'statements':>11} {'Dagster its':>11} {'CPU s':>8}"
)


def _line(one: Measured) -> str:
    times = "".join(
        f" {statistics.median(seconds):>8.2f} s {_p95(seconds):>7.2f} s" if seconds else f" {'-':>10} {'-':>9}"
        for seconds in (one.created, one.started)
    )
    idle = one.idle
    return (
        f"{one.pattern:<8} {one.reports:>7,} {one.firings:>8,}{times}"
        f" {idle.requests:>9,} {idle.statements:>11,} {idle.dagster_statements:>11,} {idle.cpu_seconds:>8.2f}"
        + (f"  {one.lost} LOST" if one.lost else "")
        + (f"  {one.twice} TWICE" if one.twice else "")
    )


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench patterns", description=__doc__)
    parser.add_argument("--pattern", type=_some_of(PATTERNS, str), default=PATTERNS, help="such as cron,queue")
    parser.add_argument("--reports", type=_some_of(REPORTS, int), default=REPORTS, help="such as 10,1000")
    return parser.parse_args()


def _some_of(allowed: tuple[Any, ...], kind: type) -> Any:
    def parse(text: str) -> list[Any]:
        try:
            names = [kind(name) for name in text.split(",")]
        except ValueError:
            names = []
        if not names or set(names) - set(allowed):
            raise ArgumentTypeError(f"{text!r} is none, or several with commas, of {', '.join(map(str, allowed))}")
        return names

    return parse


@contextmanager
def _running(pattern: str) -> Iterator[_Bench]:
    """The whole system with the sensors of one pattern, on databases of its own."""
    folder = Path(tempfile.mkdtemp(prefix="reportqueue-bench-"))
    children = Children(folder / "logs")
    system = System(children, folder, free_port(), free_port())
    url = with_database(os.environ["DATABASE_URL"], f"bench_{pattern}")
    dagster_url = with_database(url, f"bench_{pattern}_dagster")
    for one in (url, dagster_url):
        create_database(one)
    environment = {
        **os.environ,
        **system.environment(url, dagster_url),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ADMIN_PASSWORD": secrets.token_urlsafe(9),
        "REPORTQUEUE_TOKEN": secrets.token_hex(20),
        "REPORT_TRIGGER_PATTERN": pattern,
        "DAGSTER_GRPC_MAX_WORKERS": "16",
        "GUNICORN_CMD_ARGS": f"--access-logfile {children.log('requests')}",
        NOTES: str(folder / "notes"),
    }
    yaml = (BASE_DIR / "deploy" / "dagster.yaml").read_text().replace("orchestrator.definitions", TRIVIAL)
    with psycopg.connect(url) as connection:
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    bench = _Bench(pattern, folder, children, url, dagster_url, environment, Path(data))
    try:
        system.prepare(environment, yaml)
        bench.manage("empty")
        system.start(environment, location=TRIVIAL)
        if pattern != "queue":
            bench.manage("switch", pattern)
        yield bench
    except ChildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        folder = Path()  # it stays: the logs are in it
        raise
    finally:
        system.stop()
        if folder != Path():
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Bench:
    pattern: str
    folder: Path
    children: Children
    url: str
    dagster_url: str
    environment: dict[str, str]
    data: Path
    """PostgreSQL's."""

    def manage(self, *words: str) -> None:
        """What is done in Django, in a process of its own: see `benchmarks.loading`."""
        self.children.run("loading", [sys.executable, "-m", "benchmarks.loading", *words], self.environment)

    def measure(self, reports: int) -> Measured:
        """Load so many schedules, look at an idle minute, and then at `MINUTES` in which some of them are due."""
        a_minute = max(min(reports, AT_LEAST), reports // 60)
        self.manage("rest", str(reports))
        self._wait(SETTLE_SECONDS)
        idle = self._idle()
        first = _full_minute(time.time() + SETTLE_SECONDS)
        self.manage("fire", str(a_minute), str(first), str(MINUTES))
        (self.folder / "notes").unlink(missing_ok=True)
        due = {(first + 60 * minute, report) for minute in range(MINUTES) for report in range(a_minute)}
        self._wait(first - time.time())
        until = first + 60 * (MINUTES - 1) + PATIENCE_SECONDS
        while len(set(self._noted())) < len(due) and time.time() < until:
            self._wait(0.5)
        self._wait(1)
        return self._judge(reports, due, idle)

    def _judge(self, reports: int, due: set[tuple[float, int]], idle: Idle) -> Measured:
        noted = self._noted()
        created = self._runs()
        found = {key: noted[key] for key in due & noted.keys()}
        return Measured(
            pattern=self.pattern,
            reports=reports,
            firings=len(due),
            created=[created[notes[0]["run"]] - key[0] for key, notes in found.items()],
            started=[notes[0]["began"] - key[0] for key, notes in found.items()],
            twice=sum(len(notes) - 1 for notes in noted.values()),
            idle=idle,
        )

    def _noted(self) -> dict[tuple[float, int], list[dict[str, Any]]]:
        found: dict[tuple[float, int], list[dict[str, Any]]] = {}
        try:
            lines = (self.folder / "notes").read_text().splitlines()
        except FileNotFoundError:
            return {}
        for line in lines:
            note = json.loads(line)
            found.setdefault((note["due"], note["report"]), []).append(note)
        return found

    def _runs(self) -> dict[str, float]:
        """When each run's record was made, by its id (seconds since 1970)."""
        with psycopg.connect(self.dagster_url, autocommit=True) as connection:
            rows = connection.execute("SELECT run_id, create_timestamp FROM runs").fetchall()
        return {run_id: created.replace(tzinfo=UTC).timestamp() for run_id, created in rows}

    def _idle(self) -> Idle:
        with self._statements_logged() as log:
            begun_at = log.stat().st_size
            requests, seconds = self._requests(), self._cpu_seconds()
            self._wait(IDLE_SECONDS)
            requests, seconds = self._requests() - requests, self._cpu_seconds() - seconds
            with log.open("rb") as file:
                file.seek(begun_at)
                # The log of prepared statements says "execute"; of others "statement".
                lines = re.findall(rb"^counted (\S+) LOG:  (?:statement|execute)", file.read(), re.MULTILINE)
        counts = Counter(line.decode() for line in lines)
        dagster = counts.pop(f"bench_{self.pattern}_dagster", 0)
        return Idle(requests, counts.pop(f"bench_{self.pattern}", 0), dagster, seconds)

    @contextmanager
    def _statements_logged(self) -> Iterator[Path]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            settings = {"log_statement": "all", "log_line_prefix": "counted %d "}
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
            self._wait(1)
            try:
                yield self.data.parent / "logs" / "postgres.log"
            finally:
                for name in settings:
                    connection.execute(f"ALTER SYSTEM RESET {name}")
                connection.execute("SELECT pg_reload_conf()")

    def _requests(self) -> int:
        return self.children.log("requests").read_bytes().count(b"\n")

    def _cpu_seconds(self) -> float:
        """Of all processes of the system, and of PostgreSQL's."""
        total = 0.0
        servers = leftovers.of_postgres(self.data)
        sessions = [session for server in servers for session in server.children()]
        for process in [*leftovers.of_demo(self.folder), *servers, *sessions]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _wait(self, seconds: float) -> None:
        until = time.time() + seconds
        while (left := until - time.time()) > 0:
            self.children.check()
            time.sleep(min(left, 0.2))


def _full_minute(after: float) -> float:
    """The first one from which `MINUTES` are in the same hour."""
    instant = datetime.fromtimestamp(after, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    if instant.minute + MINUTES > 60:
        instant = instant.replace(minute=0) + timedelta(hours=1)
    return instant.timestamp()


if __name__ == "__main__":
    sys.exit(main())
