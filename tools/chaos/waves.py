"""The waves: rows are enqueued, faults fall on them for a while, and then all of them must come to their end."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from tools.chaos import points
from tools.chaos.bad_reports import BadReports
from tools.chaos.daemons import FAULTS, WARM_FAULTS, Daemon
from tools.chaos.deck import Deck
from tools.chaos.judge import FINAL
from tools.chaos.ledger import Line, Tail
from tools.chaos.link import ask
from tools.chaos.outages import Outages
from tools.chaos.points import CONSUMERS
from tools.chaos.system import System
from tools.runner import stop_signals

QUIET_SECONDS = 60.0
"""Once the faults are over, no row may wait for longer than this while nothing at all happens: leases take 5 to 12 s,
and how many works a minute the machine can do is not the question here."""
CALM_SECONDS = 600.0
"""How long rows may take to their end at most."""
MAX_ATTEMPTS = 100
MORE_ROUNDS = 6
HELD_SECONDS = 40.0
"""How long runs wait in the engine: more than three leases of dispatched rows."""
WORKER_FAULTS = (*points.AT_START, *points.IN_WORK, *points.AT_COMPLETE)
Say = Callable[[str], None]


class Waves:
    """What the waves share: the daemons, the rows, and the watch over the ledger."""

    def __init__(self, system: System, seed: int, say: Say) -> None:
        self.system = system
        self.say = say
        self.chance = random.Random(seed)
        self.wanted: list[int] = []
        self.met: Counter[str] = Counter()
        self.report_of: Callable[[int], int] = lambda number: 1
        """The report of the row with a number."""
        self._cycles: dict[int, int] = {}
        self._tail = Tail(system.ledger_path)
        self._frozen: list[Line] = []
        self._said = 0.0
        self._moved = 0.0
        self._number = 0
        self._worker_faults = Deck(WORKER_FAULTS, self.chance)
        self._daemon_faults = WARM_FAULTS if system.engine.name == points.WARM else FAULTS
        deck = Deck(self._daemon_faults, self.chance)
        self.daemons = [Daemon(system, consumer, deck, self.chance.randrange(2**32)) for consumer in CONSUMERS]
        for daemon in self.daemons:
            daemon.calm.set()
            daemon.start()
        self._bad_reports = BadReports(system, self.chance, self._watch)

    def crashes(self, count: int, seconds: float) -> None:
        """Daemons and workers die and freeze, people re-execute; network, web app and database are well."""
        rows = self._enqueue(count, worker_faults=True)
        # The UI offers a re-execution for runs that have ended, not for those that were killed at the very end.
        ending = [row for row in rows if points.AFTER_COMPLETE not in self.system.rules.completes[row]]
        again = set(self.chance.sample(ending, min(len(ending), max(2, count // 5))))
        self._calm(False)
        self._watch("crashes", rows, seconds, reexecute=again)
        self._watch_until_met("crashes", rows, (*self._daemon_faults, points.CONSUMER_GONE), reexecute=again)
        self._calm(True)
        self._settle("crashes", rows, reexecute=again)

    def network(self, count: int, seconds: float) -> None:
        """Messages get lost, late, doubled; all processes are well."""
        self.system.rules.disturbed = 0.25
        rows = self._enqueue(count - count // 4, worker_faults=False)
        rows += self._enqueue_through_the_network(count // 4)
        self._watch("network", rows, seconds)
        self._watch_until_met("network", rows, points.NETWORK)
        self.system.rules.disturbed = 0.0
        self._settle("network", rows)

    def outages(self, faults: int) -> None:
        """Web app, PostgreSQL and scheduler are killed and restarted, under load."""
        outages = Outages(self.system, self.chance)
        rows: list[int] = []
        for number in range(faults):
            if number % 6 == 0:
                rows += self._enqueue(12, worker_faults=False)
            outages.strike(rows)
            self._watch("outages", rows, self.chance.uniform(0.5, 3.0))
        scheduled = outages.finish()
        self.wanted += scheduled
        self._settle("outages", rows + scheduled)

    def bad_reports(self, share: float) -> None:
        """Reports crash, hang and leave things behind, strangers meddle with the database; nobody kills anything."""
        self.wanted += self._bad_reports.strike(share)
        self._progress("bad reports: over", force=True)

    def engine(self, faults: int) -> None:
        """What makes the runs' processes has faults of its own, under load; and once, no run begins for a while."""
        rows: list[int] = []
        for number in range(faults):
            if number % 2 == 0:
                rows += self._enqueue(12, worker_faults=False)
            self.system.engine.strike(rows)
            self._watch("engine", rows, self.chance.uniform(0.5, 3.0))
        self._settle("engine", rows)
        self._let_runs_wait()

    def _let_runs_wait(self) -> None:
        """Runs that wait in the engine for several leases are not launched again: each row keeps its run."""
        wave, system = "engine, held", self.system
        system.rules.turned_away = frozenset(CONSUMERS) - {points.REPAIRED_CONSUMER}
        system.engine.hold()
        rows = self._enqueue(4, worker_faults=False)
        self._watch(wave, rows, HELD_SECONDS)
        system.ledger.fault(points.RUNS_WAIT, rows)
        launched = system.runs_of(rows)
        if wrong := {row: runs for row, runs in launched.items() if runs > 1}:
            text = f"runs launched while an earlier one waited, by row: {wrong}"
            system.ledger.write("problem", point=points.RUNS_WAIT, verdict="twice", text=text)
        if not any(launched.values()):
            system.ledger.write("problem", point=points.RUNS_WAIT, verdict="lost", text="no run was launched")
        system.engine.release()
        self._settle(wave, rows)
        system.rules.turned_away = ()

    def close(self) -> None:
        """End the daemons."""
        for daemon in self.daemons:
            daemon.finish()

    def _calm(self, calm: bool) -> None:
        for daemon in self.daemons:
            daemon.calm.set() if calm else daemon.calm.clear()

    def _enqueue(self, count: int, *, worker_faults: bool) -> list[int]:
        due = datetime.now(UTC) + timedelta(seconds=2)  # their plans must be known before they are claimed
        reports, plans = [], []
        for _ in range(count):
            plan = self._plan() if worker_faults else []
            in_work, attempt = {}, 1
            for fault in plan:
                if fault in points.IN_WORK:
                    in_work[str(attempt)] = fault
                if fault != points.BEFORE_START:
                    attempt += 1
            reports.append(self._report(in_work, due))
            plans.append(plan)
        rows = self.system.enqueue(reports)
        for row, plan in zip(rows, plans, strict=True):
            self.system.rules.starts[row].extend(fault for fault in plan if fault in points.AT_START)
            self.system.rules.completes[row].extend(fault for fault in plan if fault in points.AT_COMPLETE)
        self.wanted += rows
        return rows

    def _plan(self) -> list[str]:
        plan = [self._worker_faults.draw() for _ in range(self.chance.choice((0, 1, 1, 2, 2, 3)))]
        if points.AFTER_COMPLETE in plan:  # after it, nothing can happen to the row any more
            plan = [fault for fault in plan if fault != points.AFTER_COMPLETE] + [points.AFTER_COMPLETE]
        return plan

    def _report(self, in_work: dict[str, str], due: datetime) -> dict[str, Any]:
        self._number += 1
        return {
            "report_id": self.report_of(self._number),
            "modifier_id": self._number,
            "trigger_time": due.isoformat(),
            "max_attempts": MAX_ATTEMPTS,
            # Long enough for a frozen run to wake up beside the one that has taken its place.
            "params": {"seconds": round(self.chance.uniform(0.2, 1.2), 2), "in_work": in_work},
        }

    def _enqueue_through_the_network(self, count: int) -> list[int]:
        """One by one, each repeated until it is answered: the idempotency key makes it one row."""
        rows = []
        for _ in range(count):
            report = self._report({}, datetime.now(UTC)) | {"idempotency_key": f"chaos-{self._number}"}
            while True:
                stop_signals.check()
                with suppress(OSError, ValueError):
                    rows.append(
                        self.system.call("POST", "/api/report-queue/", report, self.system.proxy.url)["queue_id"]
                    )
                    break
        found = self.system.query(
            "SELECT idempotency_key FROM reportqueue_reportqueue WHERE idempotency_key IS NOT NULL"
            " GROUP BY idempotency_key HAVING count(*) > 1"
        )
        if found or len(set(rows)) != count:
            self.system.ledger.write("problem", point=points.DUPLICATED, verdict="twice", text=f"enqueued: {found}")
        self.wanted += rows
        return rows

    def _watch(self, wave: str, rows: list[int], seconds: float, reexecute: Iterable[int] = ()) -> bool:
        """Wait until all rows are done, at most so long; whether they are. Frozen works are woken up meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            stop_signals.check()
            self._look_at_the_ledger()
            done = self._done(rows)
            self._reexecute(done & set(reexecute))
            self._progress(f"{wave}: {len(done)} of {len(rows)} rows done")
            if rows and len(done) == len(rows) and not self._frozen:
                return True
            time.sleep(0.25)
        return False

    def _watch_until_met(
        self, wave: str, rows: list[int], wanted: Iterable[str], reexecute: Iterable[int] = ()
    ) -> None:
        """A short or slow wave may not have come to every point yet: it goes on for some rounds, with more rows."""
        for _ in range(MORE_ROUNDS):
            if all(self.met[point] for point in wanted):
                return
            rows += self._enqueue(4, worker_faults=False)
            self._watch(wave, rows, 10, reexecute)

    def _settle(self, wave: str, rows: list[int], reexecute: Iterable[int] = ()) -> None:
        until = time.monotonic() + CALM_SECONDS
        self._moved = time.monotonic()
        done = False
        while not done and time.monotonic() < min(until, self._moved + QUIET_SECONDS):
            done = self._watch(f"{wave}, calm", rows, 5, reexecute)
        if not done:
            for row in set(rows) - self._done(rows):
                self.system.ledger.write("late", row=row)
        self._progress(f"{wave}: over", force=True)

    def _done(self, rows: list[int]) -> set[int]:
        """Rows that are final, after as many successes as were asked for."""
        try:
            found = self.system.query(
                "SELECT q.id, q.status, count(a.id) FILTER (WHERE a.outcome = 'succeeded') AS successes"
                " FROM reportqueue_reportqueue q LEFT JOIN reportqueue_reportattempt a ON a.queue_id = q.id"
                " WHERE q.id = ANY(%s) GROUP BY q.id",
                rows,
            )
        except psycopg.OperationalError:
            return set()
        return {
            row["id"]
            for row in found
            if row["status"] in FINAL
            and (row["status"] != "succeeded" or row["successes"] >= 1 + self._cycles.get(row["id"], 0))
        }

    def _look_at_the_ledger(self) -> None:
        for line in self._tail.lines():
            if line["kind"] == "stop" and line.get("by") == "work":
                self._frozen.append(line)
            elif line["kind"] == "tick_failed_twice":
                rows = self.system.rules.claimed[line["consumer"]]
                self.system.ledger.fault(points.TICK_FAILED_TWICE, rows, pid=line["pid"])
            elif line["kind"] == "begin":
                self._moved = time.monotonic()
            elif line["kind"] == "fault":
                self.met[line["point"]] += 1
        for line in list(self._frozen):
            if self.system.rules.replaced(line["row"], line["run"], line["t"]):
                self._frozen.remove(line)
                self.system.ledger.write("cont", row=line["row"], run=line["run"], pid=line["pid"])
                with suppress(ProcessLookupError):
                    os.kill(line["pid"], signal.SIGCONT)

    def _reexecute(self, rows: set[int]) -> None:
        for row in rows - self._cycles.keys():
            run = self.system.query("SELECT run_id FROM reportqueue_reportqueue WHERE id = %s", row)[0]["run_id"]
            self._cycles[row] = 1
            threading.Thread(
                target=self._ask_person, args=(row, run, self.chance.choice((1, 1, 2))), daemon=True
            ).start()

    def _ask_person(self, row: int, run: str, times: int) -> None:
        """A person re-executes the run, or clicks twice: then one of the two runs is refused."""
        with suppress(OSError, ValueError), ask({"op": "person", "parent": run, "times": times}) as answers:
            answers.readline()
            if json.loads(answers.readline())["code"] == 0:
                self.system.ledger.write("cycle", row=row)
                self.system.ledger.fault(points.REEXECUTED, [row], times=times)
                return
        self._cycles[row] = 0  # its run was killed before it ended: the UI offers no re-execution

    def _progress(self, text: str, *, force: bool = False) -> None:
        if force or time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            self.say(f"{text}; {self.met.total()} faults so far")
