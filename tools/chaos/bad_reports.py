"""The wave of bad reports: they crash, hang and leave things behind, and strangers meddle with the database."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from tools.chaos import points, strangers
from tools.chaos.daemons import Daemon
from tools.chaos.deck import Deck
from tools.chaos.judge import LOST, STUCK
from tools.chaos.prober import Prober
from tools.chaos.rows import GOOD_ATTEMPTS, ROWS_SECONDS, Rows, Watch
from tools.chaos.system import System

MAX_ATTEMPTS = 2
"""Of a bad report; few, so that it comes to its end."""
BATCH_ATTEMPTS, LAST_ATTEMPT = 2, 1
"""Of the good reports in a batch: the deaths of their runs must not use them up. The reports next to a bad one, which
have been started when it ends the process, have but one."""
BATCH_ROWS = 50
BATCH_BEGUN = 10
"""So many reports at least a run must have begun to be called a batch."""
LOCK_SECONDS = (6.0, 60.0)
"""How long a row is locked, in the smallest wave and in a whole one."""
LOCKED_CALLS = 16
"""At once for the locked row: as many as the web app has threads."""
CALL_SECONDS = 10.0
OTHERS_SECONDS = 40.0
"""How long rows may take beside a locked one."""
TAKEN_SECONDS = (4.0, 15.0)
"""How long all connections are taken."""


class BadReports:
    """One wave after the other."""

    def __init__(self, system: System, chance: random.Random, watch: Watch) -> None:
        """`watch(wave, rows, seconds)` says whether the rows are done within that time."""
        self._system = system
        self._chance = chance
        self._watch = watch
        self._warm = system.engine.name == points.WARM
        self._rows = Rows(system, watch)
        self._prober: Prober | None = None

    def strike(self, share: float) -> list[int]:
        """All of it; `share`, from 0 to 1, of what a whole wave is. All rows that were enqueued."""
        self._rows.forget()
        try:
            with Prober(self._system) as self._prober:
                self._crashes(share)
                if self._warm:
                    self._hanging()
                self._lock(_between(LOCK_SECONDS, share))
                self._bounds()
                self._connections(_between(TAKEN_SECONDS, share))
        finally:
            self._rows.let_in(points.CONSUMERS)
        return self._rows.all

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
            self._rows.await_begin(rows, every=True)
            self._rows.let_in([points.BATCH_CONSUMER])
            batch = self._batch()
            self._rows.await_begin(batch)
            self._rows.let_in((*points.CONSUMERS, points.BATCH_CONSUMER))
            self._rows.end([*rows, *batch])
        finally:
            daemon.finish()
        begun = Counter(line["run"] for line in self._rows.begun(batch))
        if (most := max(begun.values(), default=0)) < BATCH_BEGUN:
            self._rows.problem(points.BATCHED[0], LOST, f"there was no batch: no run has begun more than {most} rows")
        if self._warm:
            self._rows.require_free([*rows, *batch], often[0])

    def _batch(self) -> list[int]:
        places = {BATCH_ROWS * (number + 1) // 3: point for number, point in enumerate(points.BATCHED)}
        due = datetime.now(UTC) + timedelta(seconds=1)  # all at once, and all of them known by then
        reports = []
        for place in range(BATCH_ROWS):
            if place in places:
                reports.append(self._rows.report(MAX_ATTEMPTS, due, bad=places[place], seconds=0.004))
            else:
                next_to_it = place - 1 in places or place - 2 in places
                reports.append(self._rows.report(LAST_ATTEMPT if next_to_it else BATCH_ATTEMPTS, due, seconds=0.004))
        rows = self._rows.enqueue(points.BATCHED[0], reports)
        for point in points.BATCHED:
            self._system.ledger.write("beside", point=point, rows=rows)
        for place, point in places.items():
            self._rows.points[rows[place]] = point
            self._rows.expect(rows[place], ["failed"], MAX_ATTEMPTS, None)
        return rows

    def _hanging(self) -> None:
        """Reports that neither end nor hear of anything; of those whose row the reconciler looks after."""
        self._begin(points.HANGING[0], [points.REPAIRED_CONSUMER])
        rows = self._bad(points.HANGING)
        self._rows.end(rows)
        self._rows.require_free(rows, points.HANGING[0])

    def _bounds(self) -> None:
        """Counters that cannot be counted further."""
        later = datetime.now(UTC) + timedelta(hours=1)  # due only by what is written by hand
        for point in points.BOUNDS:
            self._begin(point, points.CONSUMERS)
            if point == points.GENERATION_BOUND:
                (row,) = self._rows.enqueue(point, [self._rows.report(MAX_ATTEMPTS, later)])
                self._rows.expect(row, ["failed"], 0, 0)
                strangers.exhaust_generation(self._system.url, row)
            else:
                (row,) = self._rows.enqueue(point, [self._rows.report(GOOD_ATTEMPTS, later)])
                strangers.exhaust_launch_failures(self._system.url, row)
            self._system.ledger.fault(point, [row])
            self._rows.end([row, *self._rows.good(point, 3)])

    def _lock(self, seconds: float) -> None:
        """Somebody locks a row that waits and one that is at work."""
        point = points.ROW_LOCKED
        self._begin(point, points.CONSUMERS)
        working, waiting, *rows = self._rows.good(point, 2, seconds=2.0)
        with strangers.lock(self._system.url, waiting):  # it is not due yet
            self._rows.await_begin([working])
            with strangers.lock(self._system.url, working):
                until = time.monotonic() + seconds
                self._system.ledger.fault(point, [working, waiting], outage=True)
                rows = self._rows.good(point, 4)
                self._call_locked(working)
                if not self._watch("bad reports, locked", rows, OTHERS_SECONDS):
                    self._rows.problem(point, STUCK, f"other rows are not made within {OTHERS_SECONDS:.0f} s")
                self._watch("bad reports, locked", [working], until - time.monotonic())
        self._rows.end([working, waiting, *rows])

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
            self._rows.problem(points.ROW_LOCKED, STUCK, f"{said.total()} of {LOCKED_CALLS}: {text} ({times} times)")

    def _connections(self, seconds: float) -> None:
        """Somebody takes every connection that the database has."""
        point = points.CONNECTIONS_TAKEN
        self._begin(point, points.CONSUMERS)
        rows = self._rows.good(point, 6, seconds=1.0)
        self._rows.await_begin(rows)
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
            self._rows.problem(point, STUCK, f"calls were answered {dict(said)}, not 503")
        self._rows.end(rows)
        self._rows.require_free(list(self._rows.all), point)

    def _begin(self, point: str, consumers: Collection[str]) -> None:
        assert self._prober is not None
        self._prober.point = point
        self._rows.let_in(consumers)

    def _bad(self, wanted: Iterable[str]) -> list[int]:
        """A row for each point, and a good one beside it."""
        rows = []
        due = datetime.now(UTC) + timedelta(seconds=1)
        for point in wanted:
            attempts = GOOD_ATTEMPTS if point in points.LEFT_BEHIND else MAX_ATTEMPTS
            (row,) = self._rows.enqueue(point, [self._rows.report(attempts, due, bad=point)])
            if point == points.HANGS_WITHOUT_LOCK:  # terminated by a person, so it may as well be cancelled
                self._rows.expect(row, ["failed", "cancelled"], 1, MAX_ATTEMPTS)
            elif point not in points.LEFT_BEHIND:
                given_back = points.MAX_RELEASES if point == points.TERMINATES_ITSELF else 0
                self._rows.expect(row, ["failed"], MAX_ATTEMPTS + given_back, MAX_ATTEMPTS + given_back)
            rows += [row, *self._rows.good(point, 1)]
        return rows


def refuse_well(answers: Mapping[str, int]) -> bool:
    """Whether a web app without connections to its database answers as it should; one may have been left to it."""
    return "503" in answers and answers.keys() <= {"200", "503"}


def _between(bounds: tuple[float, float], share: float) -> float:
    least, most = bounds
    return least + (most - least) * share
