"""The drain while each process is killed several times: checks that every report is still made, and only once.

The judge is that of `run.py chaos`. Each row must have succeeded, in one attempt alone; no two works of a row may have
been under way at once; and a report that was made counts as made twice, unless its run was killed, or cut off by the
web app's death, before the queue had heard of it: then another attempt is what the queue owes.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tools.benchmarks.installation import Installation
from tools.benchmarks.killed_settings import LEASES
from tools.chaos import judge, ledger
from tools.chaos.deaths import Deaths
from tools.chaos.judge import FINAL, LOST, STUCK, TWICE, Row
from tools.chaos.ledger import Ledger, Tail
from tools.runner import leftovers

WARM_SERVER = "dagster_reportqueue.warm"
REPORTS = 3_000
MORE, AT_LEAST = 500, 800
"""So many reports are added when fewer than the second number are left, so that every killed process has work."""
TIMES = 5
"""How often each kind of process is killed."""
PAUSE_SECONDS = (2.0, 6.0)
"""The pause before the next kill, after a report has begun since the last one."""
RUN_LEASE_SECONDS = 10
MAX_ATTEMPTS = 100
KILL_SECONDS, ALL_SECONDS = 720.0, 1_080.0
"""How long kills are made, and when everything must have ended."""
STARTED_SECONDS = 90.0


def drain() -> int:
    """Drain, kill, judge, print; returns 0 only if no report was lost, made twice or is stuck."""
    leases = {**LEASES, "REPORT_LEASE_SECONDS": RUN_LEASE_SECONDS}
    print("leases: " + ", ".join(f"{name} {seconds}" for name, seconds in leases.items()), flush=True)
    with Installation(
        "killed",
        code="tools.benchmarks.killed_location",
        warm_up=False,
        DJANGO_SETTINGS_MODULE="tools.benchmarks.killed_settings",
        REPORT_LEASE_SECONDS=str(RUN_LEASE_SECONDS),
    ) as one:
        try:
            with Deaths(one.record):
                killing = _Killing(one)
                killing.drain()
            return killing.judge()
        finally:
            # Servers and runs may have outlived their daemon.
            leftovers.end(leftovers.of_demo(one.data), ask=signal.SIGTERM, seconds=5)


@dataclass(frozen=True)
class _Kill:
    kind: str
    rows: frozenset[int]
    """The reports that had not ended."""
    silence: float
    """Seconds until the next report was begun."""


class _Killing:
    def __init__(self, one: Installation) -> None:
        self._one = one
        self._web, self._code, self._daemon = one.web, one.code, one.daemon
        self._ledger, self._tail = Ledger(one.record), Tail(one.record)
        self._begun: dict[int, float] = {}
        """When each process last began a report."""
        self._pks: list[int] = []
        self._kills: list[_Kill] = []
        self._began = 0.0
        self._kinds: dict[str, Callable[[frozenset[int]], Sequence[psutil.Process]]] = {
            "warm server, with its runs": self._kill_server,
            "process of a run": self._kill_run,
            "Dagster's daemon": self._kill_daemon,
            "Dagster's code server": self._kill_code,
            "worker of the web app": self._kill_web_worker,
            "web app": self._kill_web,
        }

    def drain(self) -> None:
        """Wait until every report has ended, or the time is up."""
        from reportqueue.models import ReportSchedule

        ReportSchedule.objects.all().delete()  # the demo's
        self._enqueue(REPORTS)
        self._began = time.monotonic()
        self._wait_for_a_report(self._began, ())
        for kind in list(self._kinds) * TIMES:
            if self._seconds() > KILL_SECONDS:
                break
            self._pause(random.uniform(*PAUSE_SECONDS))
            if len(self._unfinished()) < AT_LEAST:
                self._enqueue(MORE)
            self._strike(kind)
        while self._unfinished() and self._seconds() < ALL_SECONDS:
            self._pause(1.0)
        self._drained = self._seconds()

    def judge(self) -> int:
        """Print the table; returns the exit code."""
        from reportqueue.models import ReportAttempt, ReportQueue

        attempts = ReportAttempt.objects.values_list("queue_id", "run_id", "outcome")
        succeeded: dict[int, set[str]] = defaultdict(set)
        for pk, run, outcome in attempts:
            if outcome == "succeeded":
                succeeded[pk].add(run)
        statuses = dict(ReportQueue.objects.values_list("pk", "status"))
        rows = {pk: Row(status, frozenset(succeeded[pk])) for pk, status in statuses.items()}
        lines = ledger.read(self._one.record)
        bad = judge.judge(lines, rows, self._pks)
        outcomes = Counter(outcome or "open" for _, _, outcome in attempts)
        print(
            f"\n{len(self._pks):,} reports in {self._drained:.0f} s; attempts: "
            + ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.most_common())
            + f"; {judge.undelivered(lines, rows):,} were made by runs killed or cut off before the queue heard of it"
        )
        print(f"\n{'killed':<28} {'times':>6} {'lost':>6} {'twice':>6} {'stuck':>6} {'longest silence':>16}")
        for kind in self._kinds:
            kills = [kill for kill in self._kills if kill.kind == kind]
            hit = {pk for kill in kills for pk in kill.rows if pk in bad}
            silence = max((kill.silence for kill in kills), default=0.0)
            print(f"{kind:<28} {len(kills):>6}{_counts(bad, hit)} {silence:>14.1f} s")
        print(f"{'all':<28} {len(self._kills):>6}{_counts(bad, bad)}")
        for pk, verdict in list(bad.items())[:20]:
            reasons = "; ".join(f"{kind}: {', '.join(found)}" for kind, found in verdict.reasons.items())
            print(f"row {pk}: {reasons}; attempts: {[one for one in attempts if one[0] == pk]}")
        short = len(self._kills) < TIMES * len(self._kinds)
        fine = not bad and not short
        print(
            f"\n{'holds ' if fine else 'MISSED'}  {len(bad)} reports lost, made twice or stuck"
            + (f"; there was time for {len(self._kills)} kills only" if short else "")
        )
        return 0 if fine else 1

    def _strike(self, kind: str) -> None:
        left, at = frozenset(self._unfinished()), time.monotonic()
        victims = self._kinds[kind](left)
        self._wait_for_a_report(at, [victim.pid for victim in victims])
        self._kills.append(_Kill(kind, left, time.monotonic() - at))
        print(
            f"{self._seconds():5.0f} s  killed: {kind}; {len(self._pks) - len(left):,} of {len(self._pks):,} reports "
            f"had ended, the next was begun after {self._kills[-1].silence:.1f} s",
            flush=True,
        )

    def _kill_server(self, rows: frozenset[int]) -> Sequence[psutil.Process]:
        server, runs = self._at_work()
        self._fault("warm server, with its runs", rows, [server, *runs])
        server.kill()
        return runs

    def _kill_run(self, rows: frozenset[int]) -> Sequence[psutil.Process]:
        _, runs = self._at_work()
        victim = random.choice(runs)
        self._fault("process of a run", rows, [victim])
        victim.kill()
        return [victim]

    def _kill_daemon(self, rows: frozenset[int]) -> Sequence[psutil.Process]:
        self._fault("Dagster's daemon", rows, [])
        self._daemon.kill()
        self._daemon = self._one.stack.start_daemon()
        return []

    def _kill_code(self, rows: frozenset[int]) -> Sequence[psutil.Process]:
        self._fault("Dagster's code server", rows, [])
        self._code.kill()
        self._code = self._one.start_code()
        return []

    def _kill_web_worker(self, rows: frozenset[int]) -> Sequence[psutil.Process]:
        self._fault("worker of the web app", rows, [], outage=True)
        for worker in psutil.Process(self._web.process.pid).children():
            worker.kill()  # gunicorn starts another
        return []

    def _kill_web(self, rows: frozenset[int]) -> Sequence[psutil.Process]:
        self._fault("web app", rows, [], outage=True)
        self._web.kill(group=True)
        self._web = self._one.start_web()
        return []

    def _fault(
        self, kind: str, rows: frozenset[int], processes: Sequence[psutil.Process], *, outage: bool = False
    ) -> None:
        self._ledger.fault(kind, rows, pids=[process.pid for process in processes], outage=outage)

    def _at_work(self) -> tuple[psutil.Process, list[psutil.Process]]:
        """Wait for a warm server with runs that make reports; returns both. Raises `TimeoutError`."""
        until = time.monotonic() + STARTED_SECONDS
        while time.monotonic() < until:
            self._look()
            for server in self._servers():
                with suppress(psutil.NoSuchProcess):
                    runs = [run for run in server.children() if run.pid in self._begun]
                    if runs:
                        return server, runs
            self._pause(0.1)
        raise TimeoutError(f"No run made a report for {STARTED_SECONDS:.0f} s: {self._one.data}")

    def _servers(self) -> Iterator[psutil.Process]:
        for process in leftovers.of_demo(self._one.data):
            with suppress(psutil.Error):
                if WARM_SERVER in process.cmdline() and WARM_SERVER not in process.parent().cmdline():
                    yield process

    def _enqueue(self, number: int) -> None:
        from reportqueue.queue import NewReport

        first = len(self._pks)
        new = [NewReport(report_id=1, modifier_id=first + n, max_attempts=MAX_ATTEMPTS) for n in range(number)]
        self._pks += self._one.enqueue(new)

    def _unfinished(self) -> set[int]:
        from reportqueue.models import ReportQueue

        left = ReportQueue.objects.exclude(status__in=FINAL)
        return set(left.values_list("pk", flat=True))

    def _wait_for_a_report(self, since: float, victims: Collection[int]) -> None:
        """Wait until another process has begun a report, or the time is up; the judge finds stuck reports."""
        until = time.monotonic() + STARTED_SECONDS
        while time.monotonic() < until:
            self._look()
            if any(at > since for pid, at in self._begun.items() if pid not in victims):
                break
            self._pause(0.1)

    def _look(self) -> None:
        for line in self._tail.lines():
            if line["kind"] == "begin":
                self._begun[line["pid"]] = line["t"]

    def _pause(self, seconds: float) -> None:
        self._one.children.check()
        time.sleep(seconds)

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _counts(bad: dict[int, judge.Verdict], rows: Sequence[int] | set[int] | dict[int, judge.Verdict]) -> str:
    return "".join(f" {sum(bool(bad[pk].reasons.get(kind)) for pk in rows):>6}" for kind in (LOST, TWICE, STUCK))
