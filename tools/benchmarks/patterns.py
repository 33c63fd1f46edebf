"""Compares the four patterns: how late a firing is, what an idle minute costs, how many reports at once are too many.

The real processes, as the demo starts them, for each pattern in turn. Needs an empty database in DATABASE_URL;
`run.py bench patterns` provides it. Exits 0 only if nothing was lost or made twice.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import django
import psycopg

from tools.benchmarks import figures, usage
from tools.benchmarks.installation import FOLDER, Installation
from tools.runner.arguments import PATTERNS, whole_number
from tools.runner.stack import HOST, free_port

SCHEDULES = 1_000
"""Schedules while nothing is due: each once a week, on a day that is not near. Most of them never fire here."""
PHASES = (0.0, 7.5, 15.0, 22.5)
"""The daemon's sensors tick by its start, so it is started anew at these seconds of a minute."""
AT_PHASE = 10
"""Firings at each phase."""
STARTED_AHEAD = 37.5
"""So long before the instant, at least, has the daemon been started."""
FIRST, MOST = 100, 25_600
"""Firings of one instant: the first number, doubled until the pattern does not keep up, at last this one."""
IDLE_SECONDS = 60
SETTLE_SECONDS = 10
"""How long a change of schedules may take to reach every process."""
LATE_SECONDS = 600
"""How long to wait after the instant for late firings."""
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
class Fired:
    """What became of the firings of one instant."""

    due: int
    created: list[float]
    """Seconds from the instant to the run's record in Dagster, for each firing that was made."""
    started: list[float]
    """Seconds from the instant to the first line of report code."""
    twice: int

    @property
    def lost(self) -> int:
        """Firings that were not made in time."""
        return self.due - len(self.started)

    @property
    def kept_up(self) -> bool:
        """Whether every firing began before the firings of the next minute were due."""
        return not self.lost and max(self.started) <= KEPT_UP_SECONDS


def main() -> int:
    """Measure and print, a line for each measurement."""
    chosen = _arguments()
    os.environ["DAGSTER_URL"] = f"http://{HOST}:{(ui_port := free_port())}"
    django.setup()
    print(f"load before: {figures.load()}", flush=True)
    fired: list[Fired] = []
    summary = []
    for pattern in chosen.pattern:
        with _running(pattern, ui_port) as bench:
            fired += (at_phases := _at_phases(pattern, bench))
            pushed = _push(pattern, bench, chosen.most)
            fired += pushed.values()
            summary += [_spread(pattern, at_phases), _limit(pattern, pushed)]
    print("\n" + "\n".join(summary))
    print(f"load after: {figures.load()}")
    lost, twice = sum(one.lost for one in fired), sum(one.twice for one in fired)
    print(f"\n{'MISSED' if lost + twice else 'holds '}  {lost} lost, {twice} made twice")
    return 1 if lost + twice else 0


def _at_phases(pattern: str, bench: _Bench) -> list[Fired]:
    """The cost of an idle minute, and a few firings after a start of the daemon at each phase."""
    _rest(SCHEDULES)
    bench.installation.wait(SETTLE_SECONDS)
    idle = bench.idle()
    print(
        f"\n{pattern}: an idle minute of {SCHEDULES:,} schedules: {idle.requests:,} requests, {idle.statements:,}"
        f" statements, {idle.dagster_statements:,} of Dagster, {idle.cpu_seconds:.2f} s of CPU\n{_HEAD}",
        flush=True,
    )
    found = []
    for phase in PHASES:
        bench.restart_daemon(phase)
        found.append(bench.fire(AT_PHASE))
        print(_line(f"daemon started at +{phase:g} s", found[-1]), flush=True)
    return found


def _push(pattern: str, bench: _Bench, most: int) -> dict[int, Fired]:
    """Ever more firings at one instant, until the pattern does not keep up."""
    pushed: dict[int, Fired] = {}
    due = FIRST
    while due <= most and all(one.kept_up for one in pushed.values()):
        _rest(due)
        pushed[due] = bench.fire(due)
        print(_line("kept up" if pushed[due].kept_up else "did not keep up", pushed[due]), flush=True)
        due *= 2
    return pushed


_HEAD = (
    f"{'':<24} {'':>9} {'due to run created':>21} {'due to started':>32}\n"
    f"{'':<24} {'due':>9} {'median':>10} {'p95':>10} {'median':>10} {'p95':>10} {'last':>10}"
)


def _line(what: str, one: Fired) -> str:
    times = [
        *((statistics.median(one.created), figures.p95(one.created)) if one.created else ()),
        *((statistics.median(one.started), figures.p95(one.started), max(one.started)) if one.started else ()),
    ]
    return (
        f"{what:<24} {one.due:>9,}"
        + "".join(f" {seconds:>8.2f} s" for seconds in times)
        + (f"  {one.lost} LOST" if one.lost else "")
        + (f"  {one.twice} TWICE" if one.twice else "")
    )


def _spread(pattern: str, found: list[Fired]) -> str:
    medians = sorted(statistics.median(one.started) for one in found if one.started)
    if not medians:
        return f"{pattern:<8} made nothing"
    return f"{pattern:<8} due to started, medians of {len(medians)} phases: {medians[0]:.2f} to {medians[-1]:.2f} s"


def _limit(pattern: str, pushed: dict[int, Fired]) -> str:
    kept = max((due for due, one in pushed.items() if one.kept_up), default=0)
    failed = {due: one for due, one in pushed.items() if not one.kept_up}
    if not failed:
        return f"{pattern:<8} kept up with {kept:,} reports at once; more were not tried"
    ((due, one),) = failed.items()
    where = f"the last began after {max(one.started):.0f} s" if not one.lost else f"{one.lost:,} had not begun"
    return f"{pattern:<8} kept up with {kept:,} reports at once, not with {due:,}: {where}"


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench patterns", description="Compares the four patterns.")
    parser.add_argument("--pattern", type=_patterns, default=PATTERNS, help="such as cron,queue (default: all)")
    parser.add_argument(
        "--most", type=whole_number(0, MOST), default=MOST, help=f"the most reports at once (default {MOST})"
    )
    return parser.parse_args()


def _patterns(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(PATTERNS):
        raise ArgumentTypeError(f"{text!r} is not one or several, with commas, of {', '.join(PATTERNS)}")
    return [one for one in PATTERNS if one in names]


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
        yield _Bench(installation, requests, folder / "postgres", folder / "logs" / "postgres.log")


@dataclass
class _Bench:
    installation: Installation
    requests: Path
    cluster: Path
    server_log: Path

    def restart_daemon(self, phase: float) -> None:
        """Kill Dagster's daemon and start it anew, so many seconds after a full or a half minute."""
        at = _full_minute(time.time() + STARTED_AHEAD).timestamp() - STARTED_AHEAD + phase
        self.installation.wait(at - time.time())
        self.installation.daemon.kill()
        self.installation.daemon = self.installation.stack.start_daemon()
        self.installation.wait(SETTLE_SECONDS)

    def fire(self, due: int) -> Fired:
        """Let so many schedules be due at a full minute, and wait until their reports have begun."""
        took = _rest(due)
        instant = _full_minute(time.time() + SETTLE_SECONDS + 2 * took)
        _set(dict.fromkeys(range(due), f"{instant.minute} {instant.hour} * * *"))
        until = instant.timestamp() + LATE_SECONDS
        self.installation.wait(instant.timestamp() - time.time())
        while len({row for row, *_ in self._lines(instant)}) < due and time.time() < until:
            self.installation.wait(0.5)
        self.installation.wait(2)
        return self._judge(due, instant)

    def _lines(self, instant: datetime) -> list[tuple[int, str, float]]:
        """The firings of an instant that were made: report, the run, and when it began (seconds since 1970)."""
        from reportqueue.models import ReportQueue

        reports = dict(ReportQueue.objects.filter(trigger_time=instant).values_list("pk", "report_id"))
        return [(reports[line.row], line.run, line.at) for line in self.installation.lines() if line.row in reports]

    def _judge(self, due: int, instant: datetime) -> Fired:
        lines = self._lines(instant)
        created, at = self._runs(), instant.timestamp()
        firsts = {report: (run, began) for report, run, began in sorted(lines, key=lambda line: -line[2])}
        return Fired(
            due=due,
            created=[created[run] - at for run, _ in firsts.values()],
            started=[began - at for _, began in firsts.values()],
            twice=len(lines) - len(firsts),
        )

    def _runs(self) -> dict[str, float]:
        """When each run's record was created, by run id (seconds since 1970)."""
        with psycopg.connect(self.installation.dagster_url, autocommit=True) as connection:
            rows = connection.execute("SELECT run_id, create_timestamp FROM runs").fetchall()
        return {run_id: created.replace(tzinfo=UTC).timestamp() for run_id, created in rows}

    def idle(self) -> Idle:
        """Measure a minute in which nothing is due."""
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
        return usage.cpu_seconds(self.installation.data, self.cluster).total()


def _rest(count: int) -> float:
    """Let there be at least so many schedules, each once a week, on a day that is not near; returns the seconds."""
    began = time.monotonic()
    weekday = f"{datetime.now(UTC) + timedelta(days=3):%w}"
    _set({number: f"{number % 60} {number // 60 % 24} * * {weekday}" for number in range(count)})
    return time.monotonic() - began


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
    """The first full minute after an instant in seconds since 1970."""
    return datetime.fromtimestamp(after, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)


if __name__ == "__main__":
    sys.exit(main())
