"""The wave of bad reports: they crash, hang and leave things behind, and strangers meddle with the database.

After each group of them: how did the rows end, are all slots of the launcher free again, is any process left. What is
wrong is a problem of the point that has done it, and is cleared away, so that it does not blur the next group.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import psycopg

from tests.chaos import meetings, points, remains, strangers
from tests.chaos.daemons import Daemon
from tests.chaos.deck import Deck
from tests.chaos.judge import LOST, STUCK
from tests.chaos.ledger import Line, Tail
from tests.chaos.link import ask
from tests.chaos.prober import Prober
from tests.chaos.system import System

MAX_ATTEMPTS = 2
"""Of a bad report; few, so that it comes to its end."""
GOOD_ATTEMPTS = 100
BATCH_ATTEMPTS, LAST_ATTEMPT = 2, 1
"""Of the good reports in a batch: the deaths of their runs must not use them up. The reports next to a bad one, which
have been started when it ends the process, have but one."""
BATCH_ROWS = 50
BATCH_BEGUN = 10
"""So many reports at least a run must have begun to be called a batch."""
ROWS_SECONDS = 180.0
"""How long a group's rows may take to their end."""
SOME_SECONDS = 20.0
FREE_SECONDS = max(points.LINGER_SECONDS, points.STOP_SECONDS) + 2 * points.LEASE_SECONDS + SOME_SECONDS
"""How long slots and processes may be held after the rows' ends: the reconciler looks every 5 s, too."""
LOCK_SECONDS = (6.0, 60.0)
"""How long a row is locked, in the smallest wave and in a whole one."""
LOCKED_CALLS = 16
"""At once for the locked row: as many as the web app has threads."""
CALL_SECONDS = 10.0
OTHERS_SECONDS = 40.0
"""How long rows may take beside a locked one."""
TAKEN_SECONDS = (4.0, 15.0)
"""How long all connections are taken."""
Watch = Callable[[str, list[int], float], bool]


class BadReports:
    """One wave after the other."""

    def __init__(self, system: System, chance: random.Random, watch: Watch) -> None:
        """`watch(wave, rows, seconds)` says whether the rows are done within that time."""
        self._system = system
        self._chance = chance
        self._watch = watch
        self._warm = system.launcher == points.WARM
        self._tail = Tail(system.ledger_path)
        self._lines: list[Line] = []
        self._rows: list[int] = []
        self._given_up: set[int] = set()
        self._points: dict[int, str] = {}
        self._number = 0
        self._prober: Prober | None = None

    def strike(self, share: float) -> list[int]:
        """All of it; `share`, from 0 to 1, of what a whole wave is. All rows that were enqueued."""
        self._rows, self._lines, self._given_up = [], [], set()
        try:
            with Prober(self._system) as self._prober:
                self._crashes(share)
                if self._warm:
                    self._hanging()
                self._lock(_between(LOCK_SECONDS, share))
                self._bounds()
                self._connections(_between(TAKEN_SECONDS, share))
        finally:
            self._let_in(points.CONSUMERS)
        return self._rows

    def _crashes(self, share: float) -> None:
        """Reports that end their process, leave something behind, or raise what ends a process; some in a batch.

        The batch's other rows are good ones. Each row's first run is made by the right consumer; its later ones by any.
        """
        once = points.LEFT_BEHIND if self._warm else ()  # each holds a slot for a while
        often = [point for point in (*points.DEADLY, *points.RAISING) if point not in points.BATCHED]
        self._begin(often[0], points.CONSUMERS)
        daemon = Daemon(self._system, points.BATCH_CONSUMER, Deck((), self._chance), 0)
        daemon.calm.set()
        daemon.start()
        try:
            rows = self._bad((*once, *often * (1 + round(2 * share))))
            self._await_begin(rows, every=True)
            self._let_in([points.BATCH_CONSUMER])
            batch = self._batch()
            self._await_begin(batch)
            self._let_in((*points.CONSUMERS, points.BATCH_CONSUMER))
            self._end([*rows, *batch])
        finally:
            daemon.finish()
        self._look()
        begun = Counter(line["run"] for line in self._lines if line["kind"] == "begin" and line["row"] in batch)
        if (most := max(begun.values(), default=0)) < BATCH_BEGUN:
            self._problem(points.BATCHED[0], LOST, f"there was no batch: no run has begun more than {most} rows")
        if self._warm:
            self._require_free([*rows, *batch], often[0])

    def _batch(self) -> list[int]:
        places = {BATCH_ROWS * (number + 1) // 3: point for number, point in enumerate(points.BATCHED)}
        due = datetime.now(UTC) + timedelta(seconds=1)  # all at once, and all of them known by then
        reports = []
        for place in range(BATCH_ROWS):
            if place in places:
                reports.append(self._report(MAX_ATTEMPTS, due, bad=places[place], seconds=0.004))
            else:
                next_to_it = place - 1 in places or place - 2 in places
                reports.append(self._report(LAST_ATTEMPT if next_to_it else BATCH_ATTEMPTS, due, seconds=0.004))
        rows = self._enqueue(points.BATCHED[0], reports)
        for point in points.BATCHED:
            self._system.ledger.write("beside", point=point, rows=rows)
        for place, point in places.items():
            self._points[rows[place]] = point
            self._expect(rows[place], ["failed"], MAX_ATTEMPTS, None)
        return rows

    def _hanging(self) -> None:
        """Reports that neither end nor hear of anything; of those whose row the reconciler looks after."""
        self._begin(points.HANGING[0], [points.REPAIRED_CONSUMER])
        rows = self._bad(points.HANGING)
        self._end(rows)
        self._require_free(rows, points.HANGING[0])

    def _bounds(self) -> None:
        """Counters that cannot be counted further."""
        later = datetime.now(UTC) + timedelta(hours=1)  # due only by what is written by hand
        for point in points.BOUNDS:
            self._begin(point, points.CONSUMERS)
            if point == points.GENERATION_BOUND:
                (row,) = self._enqueue(point, [self._report(MAX_ATTEMPTS, later)])
                self._expect(row, ["failed"], 0, 0)
                strangers.exhaust_generation(self._system.url, row)
            else:
                (row,) = self._enqueue(point, [self._report(GOOD_ATTEMPTS, later)])
                strangers.exhaust_launch_failures(self._system.url, row)
            self._system.ledger.fault(point, [row])
            self._end([row, *self._good(point, 3)])

    def _lock(self, seconds: float) -> None:
        """Somebody locks a row that waits and one that is at work."""
        point = points.ROW_LOCKED
        self._begin(point, points.CONSUMERS)
        working, waiting, *rows = self._good(point, 2, seconds=2.0)
        with strangers.lock(self._system.url, waiting):  # it is not due yet
            self._await_begin([working])
            with strangers.lock(self._system.url, working):
                until = time.monotonic() + seconds
                self._system.ledger.fault(point, [working, waiting], outage=True)
                rows = self._good(point, 4)
                self._call_locked(working)
                if not self._watch("bad reports, locked", rows, OTHERS_SECONDS):
                    self._problem(point, STUCK, f"other rows are not made within {OTHERS_SECONDS:.0f} s")
                self._watch("bad reports, locked", [working], until - time.monotonic())
        self._end([working, waiting, *rows])

    def _call_locked(self, row: int) -> None:
        """Everybody wants something of the locked row at once."""

        def call(number: int) -> str | None:
            began = time.monotonic()
            body = {"lease_token": str(uuid.uuid4())}
            try:
                path = f"/api/report-queue/{row}/heartbeat/"
                code, headers = self._system.answer("POST", path, body, seconds=CALL_SECONDS)
            except OSError as error:
                return f"a call for the row had no answer after {time.monotonic() - began:.1f} s: {error}"
            if code != 503 or "Retry-After" not in headers:
                return f"a call for the row was answered {code}, Retry-After {headers.get('Retry-After')}"
            return None

        with ThreadPoolExecutor(LOCKED_CALLS) as pool:
            said = Counter(text for text in pool.map(call, range(LOCKED_CALLS)) if text is not None)
        if said:
            text, times = said.most_common(1)[0]
            self._problem(points.ROW_LOCKED, STUCK, f"{said.total()} of {LOCKED_CALLS}: {text} ({times} times)")

    def _connections(self, seconds: float) -> None:
        """Somebody takes every connection that the database has."""
        point = points.CONNECTIONS_TAKEN
        self._begin(point, points.CONSUMERS)
        rows = self._good(point, 6, seconds=1.0)
        self._await_begin(rows)
        said: Counter[str] = Counter()
        with strangers.Hog(self._system.url) as hog:
            if not hog.full.wait(ROWS_SECONDS):
                raise TimeoutError("PostgreSQL gives connections without end")
            self._system.ledger.fault(point, rows, outage=True)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                try:
                    code, _ = self._system.answer("GET", "/api/report-queue/?limit=1", seconds=CALL_SECONDS)
                    said[str(code)] += 1
                except OSError as error:
                    said[str(error)] += 1
                time.sleep(0.2)
        if not refuse_well(said):
            self._problem(point, STUCK, f"calls were answered {dict(said)}, not 503")
        self._end(rows)
        self._require_free(list(self._rows), point)

    # How each group begins and ends.

    def _begin(self, point: str, consumers: Collection[str]) -> None:
        assert self._prober is not None
        self._prober.point = point
        self._let_in(consumers)

    def _let_in(self, consumers: Collection[str]) -> None:
        everybody = (*points.CONSUMERS, points.BATCH_CONSUMER)
        self._system.rules.turned_away = frozenset(everybody) - set(consumers)

    def _end(self, rows: list[int]) -> None:
        """Until the rows are final; those that are not in time are given up, or they would be in the others' way."""
        stuck = self._await(rows, ROWS_SECONDS)
        for row in stuck:
            self._system.ledger.write("given up", row=row)
            with suppress(OSError, ValueError):
                self._system.call("POST", f"/api/report-queue/{row}/cancel/", {})
        self._given_up |= stuck

    def _require_free(self, rows: list[int], point: str) -> None:
        """All slots are free and all processes gone in time after the rows' ends; what is left then is killed."""
        until = time.monotonic() + FREE_SECONDS
        there = self._meet(until)
        ended = set(rows) - self._given_up
        while (left := self._remains(ended)) and time.monotonic() < until:
            time.sleep(0.2)
        by_point: dict[str, list[str]] = defaultdict(list)
        for one in left:
            by_point[self._points[one.row]].append(_described(one.process))
        for whose, found in by_point.items():
            text = f"{FREE_SECONDS:.0f} s after the rows' ends there are still {', '.join(found)}"
            self._problem(whose, STUCK, text)
        if there < self._system.slots and not self._remains(self._given_up):  # they are known to be stuck
            text = f"of {self._system.slots} slots of the launcher only {there} are free, {FREE_SECONDS:.0f} s after"
            self._problem(next(iter(by_point), point), STUCK, text)
        for one in self._remains(self._rows):
            with suppress(psutil.NoSuchProcess):
                one.process.kill()
        self._await(list(self._given_up), ROWS_SECONDS)

    def _meet(self, until: float) -> int:
        """How many of as many rows as there are slots have come to their work by then; each waits for the others."""
        self._let_in(points.CONSUMERS)
        slots = self._system.slots
        self._number += 1
        meeting = meetings.called(str(self._number), slots, until)
        due = datetime.now(UTC)
        rows = self._enqueue("", [self._report(GOOD_ATTEMPTS, due, meeting=meeting) for _ in range(slots)])
        self._end(rows)
        self._look()
        if {line["row"] for line in self._lines if line["kind"] == "met" and line["everybody"]} >= set(rows):
            return slots
        return sum(1 for line in self._lines if line["kind"] == "begin" and line["row"] in rows and line["t"] < until)

    def _remains(self, rows: Collection[int]) -> list[remains.Remains]:
        self._look()
        return remains.of_rows(self._lines, rows)

    # Rows.

    def _bad(self, wanted: Iterable[str]) -> list[int]:
        """A row for each point, and a good one beside it."""
        rows = []
        due = datetime.now(UTC) + timedelta(seconds=1)
        for point in wanted:
            attempts = GOOD_ATTEMPTS if point in points.LEFT_BEHIND else MAX_ATTEMPTS
            (row,) = self._enqueue(point, [self._report(attempts, due, bad=point)])
            if point == points.HANGS_WITHOUT_LOCK:  # terminated by a person, so it may as well be cancelled
                self._expect(row, ["failed", "cancelled"], 1, MAX_ATTEMPTS)
            elif point not in points.LEFT_BEHIND:
                given_back = points.MAX_RELEASES if point == points.TERMINATES_ITSELF else 0
                self._expect(row, ["failed"], MAX_ATTEMPTS + given_back, MAX_ATTEMPTS + given_back)
            rows += [row, *self._good(point, 1)]
        return rows

    def _good(self, point: str, count: int, seconds: float = 0.2) -> list[int]:
        due = datetime.now(UTC) + timedelta(seconds=1)
        rows = self._enqueue(point, [self._report(GOOD_ATTEMPTS, due, seconds=seconds) for _ in range(count)])
        self._system.ledger.write("beside", point=point, rows=rows)
        return rows

    def _report(self, attempts: int, due: datetime, seconds: float = 0.2, **params: Any) -> dict[str, Any]:
        self._number += 1
        return {
            "report_id": 3,
            "modifier_id": self._number,
            "trigger_time": due.isoformat(),
            "max_attempts": attempts,
            "params": {"seconds": seconds, **params},
        }

    def _enqueue(self, point: str, reports: Sequence[dict[str, Any]]) -> list[int]:
        rows = self._system.enqueue(reports)
        self._points |= dict.fromkeys(rows, point)
        self._rows += rows
        return rows

    def _expect(self, row: int, ends: list[str], least: int, most: int | None) -> None:
        self._system.ledger.write("expected", row=row, ends=ends, least=least, most=most)

    # What happens meanwhile.

    def _await(self, rows: list[int], seconds: float) -> set[int]:
        """The rows that are not final by then."""
        until = time.monotonic() + seconds
        while rows and time.monotonic() < until:
            self._look()
            if self._watch("bad reports", rows, min(1.0, until - time.monotonic())):
                return set()
        return self._unfinished(rows)

    def _await_begin(self, rows: list[int], *, every: bool = False) -> None:
        """Until one of the rows is begun, or every one; rows that never are will be found stuck."""
        until = time.monotonic() + ROWS_SECONDS
        waiting = set(rows)
        while (len(waiting) == len(rows) or (every and waiting)) and time.monotonic() < until:
            self._watch("bad reports", rows, 0.3)
            self._look()
            waiting -= {line["row"] for line in self._lines if line["kind"] == "begin"}

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

    def _problem(self, point: str, verdict: str, text: str) -> None:
        self._system.ledger.write("problem", point=point, verdict=verdict, text=text)


def refuse_well(answers: Mapping[str, int]) -> bool:
    """Whether a web app without connections to its database answers as it should; one may have been left to it."""
    return "503" in answers and answers.keys() <= {"200", "503"}


def _terminate(run: str) -> None:
    with suppress(OSError), ask({"op": "terminator", "run": run}) as answers:
        answers.read()


def _between(bounds: tuple[float, float], share: float) -> float:
    least, most = bounds
    return least + (most - least) * share


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.name()} {process.pid} ({process.status()})"
    except psutil.NoSuchProcess:
        return str(process.pid)
