"""Compares the four patterns: how late a firing's run is, the cost of an idle minute, how many reports are too many.

The real processes, as the demo starts them, for each pattern in turn. Needs an empty database in DATABASE_URL;
`run.py bench patterns` provides it. Exits 0 only if nothing was lost or made twice.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django
import psutil
import psycopg

from tools.benchmarks import figures
from tools.benchmarks.installation import FOLDER, Installation
from tools.runner import leftovers
from tools.runner.arguments import PATTERNS
from tools.runner.stack import HOST, free_port

REPORTS = (10, 100, 1_000, 10_000)
AT_LEAST = 10
"""Firings in a measured minute. Of more reports, a sixtieth fires: each is due once an hour."""
MINUTES = 1
"""Measured minutes in which schedules are due."""
IDLE_SECONDS = 60
SETTLE_SECONDS = 10
"""How long a change of schedules may take to reach every process."""
LATE_SECONDS = 300
"""How long to wait after the last instant for late firings."""
KEPT_UP_SECONDS = 60.0
"""A firing that starts later has not begun before the firings of the next minute."""


@dataclass(frozen=True)
class Idle:
    """The cost of a minute in which nothing is due."""

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
    """Seconds from the instant to the run's record in Dagster, for each firing that was made."""
    started: list[float]
    """Seconds from the instant to the first line of report code."""
    twice: int
    idle: Idle

    @property
    def lost(self) -> int:
        """Firings that were not made in time."""
        return self.firings - len(self.started)

    @property
    def kept_up(self) -> bool:
        """Whether every firing began before the firings of the next minute were due."""
        return not self.lost and max(self.started) <= KEPT_UP_SECONDS


def main() -> int:
    """Measure and print, a line for each pattern and number of reports."""
    chosen = _arguments()
    os.environ["DAGSTER_URL"] = f"http://{HOST}:{(ui_port := free_port())}"
    django.setup()
    print(f"load before: {figures.load()}\n\n{_HEAD}", flush=True)
    measured = []
    for pattern in chosen.pattern:
        with _running(pattern, ui_port) as bench:
            for reports in chosen.reports:
                measured.append(bench.measure(reports))
                print(_line(measured[-1]), flush=True)
    print()
    for pattern in chosen.pattern:
        kept = [one.reports for one in measured if one.pattern == pattern and one.kept_up]
        print(f"{pattern:<8} kept up with {max(kept, default=0):,} reports of {max(chosen.reports):,}")
    print(f"load after: {figures.load()}")
    lost, twice = sum(one.lost for one in measured), sum(one.twice for one in measured)
    print(f"\n{'MISSED' if lost + twice else 'holds '}  {lost} lost, {twice} made twice")
    return 1 if lost + twice else 0


_HEAD = (
    f"{'':<8} {'':>7} {'':>7} {'due to run created':>21} {'due to started':>21} {'in an idle minute':>43}\n"
    f"{'pattern':<8} {'reports':>7} {'firings':>7} {'median':>10} {'p95':>10} {'median':>10} {'p95':>10}"
    f" {'requests':>9} {'statements':>11} {'Dagster its':>12} {'CPU s':>8}"
)


def _line(one: Measured) -> str:
    times = "".join(
        f" {statistics.median(seconds):>8.2f} s {figures.p95(seconds):>8.2f} s" if seconds else f" {'-':>10} {'-':>10}"
        for seconds in (one.created, one.started)
    )
    idle = one.idle
    return (
        f"{one.pattern:<8} {one.reports:>7,} {one.firings:>7,}{times}"
        f" {idle.requests:>9,} {idle.statements:>11,} {idle.dagster_statements:>12,} {idle.cpu_seconds:>8.2f}"
        + (f"  {one.lost} LOST" if one.lost else "")
        + (f"  {one.twice} TWICE" if one.twice else "")
    )


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench patterns", description="Compares the four patterns.")
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
            raise ArgumentTypeError(f"{text!r} is not one or several, with commas, of {', '.join(map(str, allowed))}")
        return [one for one in allowed if one in names]

    return parse


@contextmanager
def _running(pattern: str, ui_port: int) -> Iterator[_Bench]:
    """An installation with the sensors of one pattern, which fires the schedules."""
    from reportqueue import triggers
    from reportqueue.models import ReportSchedule
    from reportqueue.patterns import Pattern

    folder = Path(os.environ[FOLDER])
    requests = folder / f"requests-{pattern}.log"
    installation = Installation(
        pattern,
        code="tools.benchmarks.location",
        scheduler=True,
        ui_port=ui_port,
        warm_up=False,
        REPORT_TRIGGER_PATTERN=pattern,
        GUNICORN_CMD_ARGS=f"--access-logfile {requests}",
    )
    with installation:
        ReportSchedule.objects.all().delete()  # the demo's, or those of the pattern before
        if triggers.current().pattern != pattern:
            triggers.hand_over(Pattern(pattern))
        yield _Bench(pattern, installation, requests, folder / "postgres", folder / "logs" / "postgres.log")


@dataclass
class _Bench:
    pattern: str
    installation: Installation
    requests: Path
    cluster: Path
    server_log: Path

    def measure(self, reports: int) -> Measured:
        """Create so many schedules; measure an idle minute, and then `MINUTES` in which some of them are due."""
        a_minute = max(min(reports, AT_LEAST), math.ceil(reports / 60))
        _rest(reports)
        self.installation.wait(SETTLE_SECONDS)
        idle = self._idle()
        first = _full_minute(time.time() + SETTLE_SECONDS)
        _fire(a_minute, first)
        instants = [first + minute * timedelta(minutes=1) for minute in range(MINUTES)]
        due = {(report, instant) for report in range(a_minute) for instant in instants}
        until = instants[-1].timestamp() + LATE_SECONDS
        self.installation.wait(first.timestamp() - time.time())
        while len(self._made(first) & due) < len(due) and time.time() < until:
            self.installation.wait(0.5)
        self.installation.wait(2)
        return self._judge(reports, due, idle)

    def _made(self, first: datetime) -> set[tuple[int, datetime]]:
        return {key for key, *_ in self._lines(first)}

    def _lines(self, first: datetime) -> list[tuple[tuple[int, datetime], str, float]]:
        """The firings made since an instant: report and instant, the run, and when it began."""
        from reportqueue.models import ReportQueue

        rows = ReportQueue.objects.filter(trigger_time__gte=first).values_list("pk", "report_id", "trigger_time")
        keys = {pk: (report, instant) for pk, report, instant in rows}
        return [(keys[line.row], line.run, line.at) for line in self.installation.lines() if line.row in keys]

    def _judge(self, reports: int, due: set[tuple[int, datetime]], idle: Idle) -> Measured:
        lines = self._lines(min(instant for _, instant in due))
        created = self._runs()
        firsts = {key: (run, at) for key, run, at in sorted(lines, key=lambda line: line[2], reverse=True)}
        found = {key: firsts[key] for key in due & firsts.keys()}
        return Measured(
            pattern=self.pattern,
            reports=reports,
            firings=len(due),
            created=[created[run] - key[1].timestamp() for key, (run, _) in found.items()],
            started=[at - key[1].timestamp() for key, (_, at) in found.items()],
            twice=len(lines) - len(firsts),
            idle=idle,
        )

    def _runs(self) -> dict[str, float]:
        """When each run's record was created, by run id (seconds since 1970)."""
        with psycopg.connect(self.installation.dagster_url, autocommit=True) as connection:
            rows = connection.execute("SELECT run_id, create_timestamp FROM runs").fetchall()
        return {run_id: created.replace(tzinfo=UTC).timestamp() for run_id, created in rows}

    def _idle(self) -> Idle:
        with self._statements_logged():
            begun_at = self.server_log.stat().st_size
            requests, seconds = self._requests(), self._cpu_seconds()
            self.installation.wait(IDLE_SECONDS)
            requests, seconds = self._requests() - requests, self._cpu_seconds() - seconds
            with self.server_log.open("rb") as file:
                file.seek(begun_at)
                # Prepared statements are logged as "execute".
                lines = re.findall(rb"^counted (\S+) LOG:  (?:statement|execute)", file.read(), re.MULTILINE)
        dagster = Counter(line.startswith(b"dagster_") for line in lines)
        return Idle(requests, dagster[False], dagster[True], seconds)

    @contextmanager
    def _statements_logged(self) -> Iterator[None]:
        settings = {"log_statement": "all", "log_line_prefix": "counted %d "}
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
            self.installation.wait(1)
            try:
                yield
            finally:
                for name in settings:
                    connection.execute(f"ALTER SYSTEM RESET {name}")
                connection.execute("SELECT pg_reload_conf()")

    def _requests(self) -> int:
        return self.requests.read_bytes().count(b"\n")

    def _cpu_seconds(self) -> float:
        """The CPU seconds of all processes of the installation, and of PostgreSQL."""
        total = 0.0
        servers = leftovers.of_postgres(self.cluster)
        sessions = [session for server in servers for session in server.children()]
        for process in [*leftovers.of_demo(self.installation.data), *servers, *sessions]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def _rest(count: int) -> None:
    """Create schedules until there are `count`, each once a week, on a day that is not near."""
    weekday = f"{datetime.now(UTC) + timedelta(days=3):%w}"
    _set({number: f"{number % 60} {number // 60 % 24} * * {weekday}" for number in range(count)})


def _fire(count: int, first: datetime) -> None:
    """Let the first `count` schedules fire in the measured minutes."""
    _set(dict.fromkeys(range(count), f"{first.minute}-{first.minute + MINUTES - 1} {first.hour} * * *"))


def _set(expressions: dict[int, str]) -> None:
    from django.db import transaction

    from reportqueue.models import ReportSchedule

    with transaction.atomic():
        there = {schedule.report_id: schedule for schedule in ReportSchedule.objects.all()}
        for report, cron in expressions.items():
            schedule = there.get(report) or ReportSchedule(report_id=report, modifier_id=1, timezone="UTC")
            if schedule.cron != cron:
                schedule.cron = cron
                schedule.save()


def _full_minute(after: float) -> datetime:
    """The first minute after which `MINUTES` are in the same hour."""
    instant = datetime.fromtimestamp(after, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    if instant.minute + MINUTES > 60:
        instant = instant.replace(minute=0) + timedelta(hours=1)
    return instant


if __name__ == "__main__":
    sys.exit(main())
