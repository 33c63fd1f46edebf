"""The rows of a wave of bad reports: how they are enqueued, awaited, and what must be so after their ends.

All slots of the launcher are free again, and no process is left. What is not so is a problem of the point that has done
it, and is cleared away, so that it does not blur what follows.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import psycopg

from tools.chaos import meetings, points, remains
from tools.chaos.judge import STUCK
from tools.chaos.ledger import Line, Tail
from tools.chaos.link import ask
from tools.chaos.system import System

GOOD_ATTEMPTS = 100
ROWS_SECONDS = 180.0
"""How long a group's rows may take to their end."""
SOME_SECONDS = 20.0
FREE_SECONDS = max(points.LINGER_SECONDS, points.STOP_SECONDS) + 2 * points.LEASE_SECONDS + SOME_SECONDS
"""How long slots and processes may be held after the rows' ends: the reconciler looks every 5 s, too."""
Watch = Callable[[str, list[int], float], bool]


class Rows:
    """Those of one wave after the other."""

    def __init__(self, system: System, watch: Watch) -> None:
        """`watch(wave, rows, seconds)` says whether the rows are done within that time."""
        self.all: list[int] = []
        self.points: dict[int, str] = {}
        """Whose doing it is if something is wrong with a row's processes."""
        self._system = system
        self._watch = watch
        self._tail = Tail(system.ledger_path)
        self._lines: list[Line] = []
        self._given_up: set[int] = set()
        self._number = 0

    def forget(self) -> None:
        """Those of the last wave."""
        self.all, self._lines, self._given_up = [], [], set()

    def let_in(self, consumers: Collection[str]) -> None:
        """Whatever is due is for these."""
        everybody = (*points.CONSUMERS, points.BATCH_CONSUMER)
        self._system.rules.turned_away = frozenset(everybody) - set(consumers)

    def begun(self, rows: Collection[int]) -> list[Line]:
        """What the ledger says of their begins."""
        self._look()
        return [line for line in self._lines if line["kind"] == "begin" and line["row"] in rows]

    def problem(self, point: str, verdict: str, text: str) -> None:
        """Something else than a row is wrong."""
        self._system.ledger.write("problem", point=point, verdict=verdict, text=text)

    def report(self, attempts: int, due: datetime, seconds: float = 0.2, **params: Any) -> dict[str, Any]:
        """One to enqueue, whose work takes so long."""
        self._number += 1
        return {
            "report_id": 3,
            "modifier_id": self._number,
            "trigger_time": due.isoformat(),
            "max_attempts": attempts,
            "params": {"seconds": seconds, **params},
        }

    def enqueue(self, point: str, reports: Sequence[dict[str, Any]]) -> list[int]:
        """The rows of these reports, together; what their processes do is the point's doing."""
        rows = self._system.enqueue(reports)
        self.points |= dict.fromkeys(rows, point)
        self.all += rows
        return rows

    def good(self, point: str, count: int, seconds: float = 0.2) -> list[int]:
        """Rows of good reports beside a point, due in a moment."""
        due = datetime.now(UTC) + timedelta(seconds=1)
        rows = self.enqueue(point, [self.report(GOOD_ATTEMPTS, due, seconds=seconds) for _ in range(count)])
        self._system.ledger.write("beside", point=point, rows=rows)
        return rows

    def expect(self, row: int, ends: list[str], least: int, most: int | None) -> None:
        """The row's report is bad: it may end so, and is begun so often."""
        self._system.ledger.write("expected", row=row, ends=ends, least=least, most=most)

    def await_begin(self, rows: list[int], *, every: bool = False) -> None:
        """Until one of the rows is begun, or every one; rows that never are will be found stuck."""
        until = time.monotonic() + ROWS_SECONDS
        waiting = set(rows)
        while (len(waiting) == len(rows) or (every and waiting)) and time.monotonic() < until:
            self._watch("bad reports", rows, 0.3)
            waiting -= {line["row"] for line in self.begun(rows)}

    def end(self, rows: list[int]) -> None:
        """Until the rows are final; those that are not in time are given up, or they would be in the others' way."""
        stuck = self._await(rows, ROWS_SECONDS)
        for row in stuck:
            self._system.ledger.write("given up", row=row)
            with suppress(OSError, ValueError):
                self._system.call("POST", f"/api/report-queue/{row}/cancel/", {})
        self._given_up |= stuck

    def require_free(self, rows: list[int], point: str) -> None:
        """All slots are free and all processes gone in time after the rows' ends; what is left then is killed."""
        until = time.monotonic() + FREE_SECONDS
        there = self._meet(until)
        ended = set(rows) - self._given_up
        while (left := self._remains(ended)) and time.monotonic() < until:
            time.sleep(0.2)
        by_point: dict[str, list[str]] = defaultdict(list)
        for one in left:
            by_point[self.points[one.row] or point].append(_described(one.process))
        for whose, found in by_point.items():
            text = f"{FREE_SECONDS:.0f} s after the rows' ends there are still {', '.join(found)}"
            self.problem(whose, STUCK, text)
        slots = self._system.engine.slots
        if there < slots and not self._remains(self._given_up):  # they are known to be stuck
            text = f"of {slots} slots of the launcher only {there} are free, {FREE_SECONDS:.0f} s after"
            self.problem(next(iter(by_point), point), STUCK, text)
        for one in self._remains(self.all):
            with suppress(psutil.NoSuchProcess):
                one.process.kill()
        self._await(list(self._given_up), ROWS_SECONDS)

    def _meet(self, until: float) -> int:
        """How many of as many rows as there are slots have come to their work by then; each waits for the others."""
        self.let_in(points.CONSUMERS)
        slots = self._system.engine.slots
        self._number += 1
        meeting = meetings.called(str(self._number), slots, until)
        due = datetime.now(UTC)
        rows = self.enqueue("", [self.report(GOOD_ATTEMPTS, due, meeting=meeting) for _ in range(slots)])
        self.end(rows)
        there = sum(1 for line in self.begun(rows) if line["t"] < until)
        met = {line["row"] for line in self._lines if line["kind"] == "met" and line["everybody"]}
        return slots if met >= set(rows) else min(there, slots - 1)

    def _remains(self, rows: Collection[int]) -> list[remains.Remains]:
        self._look()
        return remains.of_rows(self._lines, rows)

    def _await(self, rows: list[int], seconds: float) -> set[int]:
        """The rows that are not final by then."""
        until = time.monotonic() + seconds
        while rows and time.monotonic() < until:
            self._look()
            if self._watch("bad reports", rows, min(1.0, until - time.monotonic())):
                return set()
        return self._unfinished(rows)

    def _unfinished(self, rows: list[int]) -> set[int]:
        statement = "SELECT id FROM reportqueue_reportqueue WHERE id = ANY(%s) AND NOT processed"
        try:
            return {row["id"] for row in self._system.query(statement, rows)}
        except psycopg.OperationalError:
            return set(rows)

    def _look(self) -> None:
        """At the ledger; runs that hang without the lock, and so keep their row, are terminated by a person."""
        for line in self._tail.lines():
            if line["kind"] in ("begin", "process", "met"):
                self._lines.append(line)
            elif line["kind"] == "stop" and line.get("by") == points.HANGS_WITHOUT_LOCK:
                threading.Thread(target=_terminate, args=[line["run"]], daemon=True).start()


def _terminate(run: str) -> None:
    with suppress(OSError), ask({"op": "terminator", "run": run}) as answers:
        answers.read()


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.name()} {process.pid} ({process.status()})"
    except psutil.NoSuchProcess:
        return str(process.pid)
