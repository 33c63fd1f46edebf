"""The queue's state machine once more, in plain Python: what the tests hold the real one against.

Written from the design (statuses, protocol, API), not from the code; it knows no SQL, no locks and no Django. One call
is one step, time is a number of seconds that moves when the test says so. What only the database can know (ids,
tokens, claim ids, the microseconds that decide an order) is filled in by the test after each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

QUEUED, CLAIMED, DISPATCHED, RUNNING = "queued", "claimed", "dispatched", "running"
SUCCEEDED, FAILED, CANCELLED, SKIPPED = "succeeded", "failed", "cancelled", "skipped"
WITH_CONSUMER = (CLAIMED, DISPATCHED)
LEASED = (*WITH_CONSUMER, RUNNING)
FINAL = (SUCCEEDED, FAILED, CANCELLED, SKIPPED)

FRESH = UUID(int=0)
"""A token or a claim id that the database has just made up."""
NOT_READ = datetime.min.replace(tzinfo=UTC)

SETTINGS = {
    "CLAIM_LEASE_SECONDS": 100,
    "DISPATCH_LEASE_SECONDS": 300,
    "RUN_LEASE_SECONDS": 100,
    "RETRY_BACKOFF_SECONDS": 100,
    "RETRY_BACKOFF_MAX_SECONDS": 400,
    "RETRY_JITTER": 0,
    "MAX_RELEASES": 2,
    "MAX_UNSTARTED_RUNS": 2,
}
"""All times are multiples of 100 s: no test takes that long, so the real clock never decides anything."""


def backoff(times: int) -> int:
    return min(100 * 2 ** (times - 1), 400)


class Refused(Exception):
    """The call changes nothing and raises; `why` is `state`, `owner`, `unknown` or `key`."""

    def __init__(self, why: str, status: str | None = None) -> None:
        super().__init__(why, status)
        self.why, self.status = why, status


@dataclass(frozen=True)
class Content:
    """What is asked for. `delay` None: due now; else the trigger time, from the example's start on."""

    key: str | None = None
    modifier: int = 1
    max_attempts: int = 2
    priority: int = 0
    delay: int | None = None
    report: int = 1
    route: str = "default"


@dataclass(frozen=True)
class Limits:
    """What the catalogue says of a report: caps, starts in a period of 250 s, and when its rows expire."""

    max_running: int | None = None
    per_modifier: int | None = None
    rate: int | None = None
    expires: int | None = None


PERIOD = 250


@dataclass
class Attempt:
    run_id: str
    parent: str
    generation: int
    number: int
    cycle: int
    place: int
    """Among all starts."""
    at: int
    counted: bool
    """Whether its report had a rate when it was started."""
    token: UUID = FRESH
    outcome: str = ""


@dataclass
class Schedule:
    """Of a schedule, what decides whether its reports may overlap."""

    limited: bool
    deleted: bool = False


@dataclass
class Row:
    n: int
    content: Content
    due: int
    available: int
    status: str = QUEUED
    generation: int = 0
    attempt: int = 0
    launch_failures: int = 0
    unstarted_runs: int = 0
    releases: int = 0
    alone: bool = False
    consumer: str = ""
    claim: UUID | None = None
    lease: int | None = None
    expires: int | None = None
    token: UUID | None = None
    asked_to_cancel: bool = False
    schedule: int | None = None
    limited: int | None = None
    """The schedule whose reports take turns with this one, also after it is deleted."""
    waiting: bool = False
    finished: int | None = None
    result: Any = None
    cycle: int = 0
    """Counts requeues and re-executions: within one cycle, a row succeeds at most once."""
    attempts: list[Attempt] = field(default_factory=list)
    pk: int = 0
    available_at: datetime = NOT_READ
    trigger_time: datetime = NOT_READ
    lease_at: datetime | None = None

    @property
    def run_id(self) -> str:
        return self.attempts[-1].run_id if self.attempts else ""

    def ended(self, token: UUID, outcome: str) -> bool:
        return any(attempt.token == token and attempt.outcome == outcome for attempt in self.attempts)


class Model:
    """All rows, and the verbs. A verb returns what the caller is told, or raises `Refused`."""

    def __init__(self) -> None:
        self.now = 0
        self.rows: dict[int, Row] = {}
        self.schedules: dict[int, Schedule] = {}
        self.limits: dict[int, Limits] = {}
        self.paused: set[tuple[str, Any]] = set()
        """`("queue", None)`, `("route", name)`, `("report", number)`."""
        self.made = self.started = 0
        self.moves: list[tuple[int, str, str, str]] = []
        """Of the last step: row, verb, status before, status after."""
        self.written: set[int] = set()
        """Rows that the last step wrote: every other one must be left as it was, to the last byte."""

    def step(self, verb: str, **args: Any) -> Any:
        self.moves, self.written = [], set()
        return getattr(self, verb)(**args)

    # Intake

    def enqueue(self, contents: Sequence[Content]) -> list[tuple[int, bool]]:
        """All or none; for each its row and whether it is new."""
        known = {row.content.key: row.content for row in self.rows.values() if row.content.key}
        for content in contents:
            if content.key and known.setdefault(content.key, content) != content:
                raise Refused("key")
        answer = []
        for content in contents:
            found = [row.n for row in self.rows.values() if content.key and row.content.key == content.key]
            answer.append((found[0], False) if found else (self._new(content), True))
        return answer

    def _new(self, content: Content) -> int:
        self.made += 1
        due = self.now + (content.delay or 0)
        row = self.rows[self.made] = Row(self.made, content, due=due, available=due)
        lasts = self._limits(content.report).expires
        row.expires = None if lasts is None else due + lasts
        self._to(row, "enqueue", QUEUED, before="")
        return row.n

    # Schedules

    def add_schedule(self, limited: bool) -> int:
        s = len(self.schedules) + 1
        self.schedules[s] = Schedule(limited)
        return s

    def run_now(self, s: int) -> int:
        """A new row of the schedule. If its reports may not overlap, it waits while another is unfinished."""
        row = self.rows[self._new(Content(max_attempts=3))]
        row.schedule = s
        row.waiting = not self._may_enter(row)
        row.limited = self._limited_by(row)
        return row.n

    def set_overlap(self, s: int, limited: bool) -> None:
        """What is unfinished takes turns from now on, or no longer."""
        if self.schedules[s].limited == limited:
            return
        self.schedules[s].limited = limited
        mine = [row for row in self.rows.values() if row.schedule == s and row.status not in FINAL]
        for row in mine:
            row.limited, row.waiting = (s, True) if limited else (None, False)
            self.written.add(row.n)
        if limited:
            self._pass_on(s)

    def delete_schedule(self, s: int) -> None:
        """Its rows stay, and still take turns."""
        self.schedules[s].deleted = True
        for row in self.rows.values():
            if row.schedule == s:
                row.schedule = None
                self.written.add(row.n)

    def _turn(self, s: int) -> Row | None:
        """The row whose turn it is."""
        found = [one for one in self._of_turns(s) if not one.waiting]
        assert len(found) < 2, "two rows have their turn"
        return found[0] if found else None

    def _of_turns(self, s: int) -> list[Row]:
        return [one for one in self.rows.values() if one.limited == s and one.status not in FINAL]

    def _pass_on(self, s: int) -> None:
        """First to what is under way all the same, then to what is available, in the order of a claim."""
        waiting = self._of_turns(s)
        if waiting and self._turn(s) is None:
            held = {RUNNING: 0, DISPATCHED: 1, CLAIMED: 1, QUEUED: 2}
            first = min(
                waiting,
                key=lambda row: (
                    held[row.status],
                    row.available > self.now,
                    -row.content.priority,
                    row.available_at,
                    row.pk,
                ),
            )
            first.waiting = False
            self.written.add(first.n)

    def _limited_by(self, row: Row) -> int | None:
        """The schedule with whose reports it takes turns as things are now; if it was deleted, as they were."""
        if row.schedule is None:
            return row.limited
        return row.schedule if self.schedules[row.schedule].limited else None

    def _may_enter(self, row: Row) -> bool:
        """Whether a row that is new or final may be run at once."""
        s = self._limited_by(row)
        return s is None or self._turn(s) is None

    def skip(self) -> int:
        """The scheduler writes down a firing that it did not run."""
        n = self._new(Content())
        self.moves.clear()  # it is an insert: nothing was told of a queued row
        self.rows[n].status, self.rows[n].finished, self.rows[n].expires = SKIPPED, self.now, None
        return n

    # The catalogue, and pauses

    def limit(self, report: int, limits: Limits) -> None:
        """From now on: what is under way stays."""
        self.limits[report] = limits

    def pause(self, what: str, which: Any) -> None:
        self.paused.add((what, which))

    def resume(self, what: str, which: Any) -> None:
        self.paused.discard((what, which))

    def _limits(self, report: int) -> Limits:
        return self.limits.get(report, Limits())

    def _may_be_claimed(self, row: Row) -> bool:
        """Whether pauses, caps and rates leave room for one more row like this."""
        paused = {("queue", None), ("route", row.content.route), ("report", row.content.report)}
        if paused & self.paused:
            return False
        limits = self._limits(row.content.report)
        mine = [one for one in self.rows.values() if one.content.report == row.content.report]
        leased = [one for one in mine if one.status in LEASED]
        if limits.max_running is not None and len(leased) >= limits.max_running:
            return False
        of_modifier = [one for one in leased if one.content.modifier == row.content.modifier]
        if limits.per_modifier is not None and len(of_modifier) >= limits.per_modifier:
            return False
        lately = [one for other in mine for one in other.attempts if one.counted and one.at > self.now - PERIOD]
        coming = [one for one in leased if one.status != RUNNING]
        return limits.rate is None or len(lately) + len(coming) < limits.rate

    def _skip_too_late(self) -> None:
        for row in self.rows.values():
            if row.status == QUEUED and row.expires is not None and row.expires <= self.now:
                self._too_late(row)

    def _too_late(self, row: Row) -> None:
        row.result = {"reason": "expired", "count": 1}
        self._end(row, "expire", SKIPPED)

    # A consumer

    def claim(
        self,
        consumer: str,
        ack: UUID | None = None,
        limit: int = 25,
        lease: int | None = None,
        dispatch_lease: int | None = None,
        room: int | None = None,
        routes: list[str] | None = None,
    ) -> tuple[UUID | None, list[int]]:
        """The claim id and its rows in order; `room` is `max_in_flight`."""
        until = self.now + (lease or 100)
        for row in self._of(consumer, CLAIMED):
            if row.claim == ack:
                row.lease = self.now + (dispatch_lease or 300)
                self._to(row, "acknowledge", DISPATCHED)
        self.rescue()
        self._skip_too_late()
        held = self._in_order(self._of(consumer, CLAIMED))
        if held:
            for row in held:
                row.lease = until
                self.written.add(row.n)
            assert len({row.claim for row in held}) == 1, "a consumer has two open claims"
            return held[0].claim, [row.n for row in held]
        if room is not None:
            limit = min(limit, room - len(self._of(consumer, *LEASED)))
        rows = []
        for row in self._fairest([row for row in self.due() if routes is None or row.content.route in routes]):
            if len(rows) < limit and self._may_be_claimed(row):
                row.generation += 1
                row.consumer, row.claim, row.lease = consumer, FRESH, until
                self._to(row, "claim", CLAIMED)
                rows.append(row)
        return (FRESH if rows else None), [row.n for row in self._in_order(rows)]

    def _fairest(self, rows: list[Row]) -> list[Row]:
        """Of a priority, first the first row of each modifier on a route, by modifier; and so on."""
        places: dict[int, int] = {}
        count: dict[tuple[str, int, int], int] = {}
        for row in self._in_order(rows):
            if not self._may_be_claimed(row):
                continue
            key = (row.content.route, row.content.priority, row.content.modifier)
            count[key] = count.get(key, 0) + 1
            places[row.n] = count[key]
        return sorted(
            (row for row in rows if row.n in places),
            key=lambda row: (
                -row.content.priority,
                places[row.n],
                row.content.modifier,
                row.available_at,
                row.pk,
            ),
        )

    def due(self) -> list[Row]:
        queued = [row for row in self.rows.values() if row.status == QUEUED and not row.waiting]
        return [row for row in queued if row.available <= self.now]

    def _of(self, consumer: str, *statuses: str) -> list[Row]:
        return [row for row in self.rows.values() if row.consumer == consumer and row.status in statuses]

    def _in_order(self, rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: (-row.content.priority, row.available_at, row.pk))

    def release_claimed(self, n: int, claim: UUID, delay: int = 0) -> int:
        row = self._row(n)
        if row.status not in WITH_CONSUMER:
            raise Refused("state", row.status)
        if row.claim != claim:
            raise Refused("owner", row.status)
        wait = max(delay, backoff(row.launch_failures)) if row.launch_failures else delay
        row.launch_failures += 1
        return self._back(row, "release", self.now + wait)

    def fail_launch(self, n: int, generation: int, run_id: str, counts: bool = True) -> int:
        row = self._row(n)
        if generation > row.generation:
            raise Refused("state", row.status)
        if generation < row.generation or row.status == QUEUED or (row.status == FAILED and row.unstarted_runs):
            return n
        if row.status not in WITH_CONSUMER:
            raise Refused("state", row.status)
        row.launch_failures += 1
        row.unstarted_runs += counts
        if counts and row.unstarted_runs >= SETTINGS["MAX_UNSTARTED_RUNS"]:
            return self._end(row, "fail", FAILED)
        return self._back(row, "fail", self.now + backoff(row.launch_failures))

    # A run

    def start(self, n: int, generation: int, run_id: str, parent: str = "", lease: int | None = None) -> int:
        row = self._row(n)
        until = self.now + (lease or 100)
        if row.status == RUNNING and row.run_id == run_id:
            row.lease = until
            self.written.add(n)
            return n
        late = row.expires is not None and row.expires <= self.now
        if late and row.status in (QUEUED, CLAIMED, DISPATCHED):
            self._too_late(row)
            raise Refused("state", row.status)
        re_executed = row.status in FINAL and parent != "" and parent == row.run_id
        if row.status == RUNNING or (row.status in FINAL and not re_executed):
            raise Refused("state", row.status)
        if not 1 <= generation <= row.generation or any(one.run_id == run_id for one in row.attempts):
            raise Refused("state", row.status)
        if row.waiting or (re_executed and not self._may_enter(row)):
            raise Refused("state", row.status)
        if re_executed:
            row.limited = self._limited_by(row)
            row.attempt, row.releases, row.cycle, row.available = 0, 0, row.cycle + 1, self.now
        row.attempt += 1
        self.started += 1
        counted = self._limits(row.content.report).rate is not None
        attempt = Attempt(run_id, parent, generation, row.attempt, row.cycle, self.started, self.now, counted)
        row.attempts.append(attempt)
        row.expires = None
        row.token, row.lease = FRESH, until
        row.finished = row.result = None
        row.launch_failures = row.unstarted_runs = 0
        self._to(row, "start", RUNNING)
        return n

    def heartbeat(self, n: int, token: UUID, lease: int | None = None) -> tuple[int, bool]:
        row = self._owned(n, token)
        row.lease = self.now + (lease or 100)
        self.written.add(n)
        return row.lease, row.asked_to_cancel

    def complete(self, n: int, token: UUID, result: Any = None) -> int:
        if self._row(n).ended(token, SUCCEEDED):
            return n
        row = self._owned(n, token)
        row.attempts[-1].outcome, row.result = SUCCEEDED, result
        return self._end(row, "complete", SUCCEEDED)

    def fail(self, n: int, token: UUID, retryable: bool = True, after: int | None = None) -> int:
        if self._row(n).ended(token, FAILED):
            return n
        row = self._owned(n, token)
        row.attempts[-1].outcome = FAILED
        return self._attempt_failed(row, "fail", after, retryable=retryable)

    def release(self, n: int, token: UUID, delay: int = 0, begun: bool = True) -> int:
        if self._row(n).ended(token, "released"):
            return n
        row = self._owned(n, token)
        row.attempts[-1].outcome = "released"
        if row.asked_to_cancel:
            return self._end(row, "release", CANCELLED)
        if begun:
            delay = max(delay, backoff(row.releases)) if row.releases else delay
            row.releases, row.alone = row.releases + 1, True
            if row.releases > SETTINGS["MAX_RELEASES"]:
                if row.attempt >= row.content.max_attempts:
                    return self._end(row, "release", FAILED)
                return self._back(row, "release", self.now + delay)
        row.attempt -= 1
        return self._back(row, "release", self.now + delay)

    def _owned(self, n: int, token: UUID) -> Row:
        row = self._row(n)
        if row.status != RUNNING or row.token != token:
            raise Refused("owner", row.status)
        return row

    # People

    def cancel(self, n: int, token: UUID | None = None) -> int:
        row = self._row(n)
        if token is not None:
            if row.ended(token, CANCELLED):
                return n
            self._owned(n, token).attempts[-1].outcome = CANCELLED
            return self._end(row, "cancel", CANCELLED)
        if row.status == RUNNING:
            row.asked_to_cancel = True
            self.written.add(n)
            return n
        if row.status == CANCELLED:
            return n
        if row.status in FINAL:
            raise Refused("state", row.status)
        return self._end(row, "cancel", CANCELLED)

    def mark_processed(self, n: int) -> int:
        row = self._row(n)
        if row.status in FINAL:
            return n
        if row.status == RUNNING:
            raise Refused("state", row.status)
        row.generation += row.status == QUEUED
        return self._end(row, "mark_processed", SUCCEEDED)

    def requeue(self, n: int) -> int:
        row = self._row(n)
        if row.status not in (SUCCEEDED, FAILED, CANCELLED):
            raise Refused("state", row.status)
        row.cycle += 1
        row.attempt = row.launch_failures = row.unstarted_runs = row.releases = 0
        row.finished = row.result = row.expires = None
        row.waiting = not self._may_enter(row)
        row.limited = self._limited_by(row)
        return self._back(row, "requeue", self.now)

    # Time

    def rescue(self) -> tuple[int, int]:
        """How many expired rows are queued again, and how many are final."""
        queued = ended = 0
        in_hand = self._in_hand()
        leased = [row for row in self.rows.values() if row.status in LEASED and row.lease is not None]
        expired = [row for row in leased if row.lease is not None and row.lease <= self.now]
        for row in sorted(expired, key=lambda row: row.lease_at or NOT_READ):
            if row.status == CLAIMED:
                self._back(row, "rescue_expired", None)
            elif row.status == DISPATCHED:
                row.launch_failures += 1
                self._back(row, "rescue_expired", self.now + backoff(row.launch_failures))
            else:
                row.attempts[-1].outcome = "expired"
                let_off = row.n not in in_hand and not row.alone and not row.asked_to_cancel
                row.alone = True
                if let_off:
                    row.attempt -= 1
                    self._back(row, "rescue_expired", self.now)
                else:
                    self._attempt_failed(row, "rescue_expired", None)
            queued, ended = queued + (row.status == QUEUED), ended + (row.status in FINAL)
        return queued, ended

    def _in_hand(self) -> set[int]:
        """Of each run the first row, in the order of its starts, that has no good end."""
        first: dict[str, tuple[int, int]] = {}
        for row in self.rows.values():
            for one in row.attempts:
                if one.outcome in ("", "expired"):
                    first[one.run_id] = min((one.place, row.n), first.get(one.run_id, (one.place, row.n)))
        return {n for _, n in first.values()}

    def prune(self, older_than: int, keep: int, batch: int) -> int:
        """How many rows went, and with them their attempts and keys."""
        kept: set[int] = set()
        for of in {(row.content.report, row.content.modifier) for row in self.rows.values()}:
            mine = [row for row in self.rows.values() if (row.content.report, row.content.modifier) == of]
            final = [row for row in mine if row.status in FINAL]
            final.sort(key=lambda row: (row.trigger_time, row.pk), reverse=True)
            kept |= {row.n for row in final[:keep]}
        old = [
            row.n
            for row in self.rows.values()
            if row.finished is not None and row.finished <= self.now - older_than and row.n not in kept
        ]
        for n in old:
            del self.rows[n]
        return len(old)

    # What the verbs share

    def _row(self, n: int) -> Row:
        if n not in self.rows:
            raise Refused("unknown")
        return self.rows[n]

    def _to(self, row: Row, verb: str, status: str, before: str | None = None) -> int:
        self.moves.append((row.n, verb, row.status if before is None else before, status))
        self.written.add(row.n)
        row.status = status
        return row.n

    def _back(self, row: Row, verb: str, available: int | None) -> int:
        """A queued row is nobody's. `available` None: it is available since when it was."""
        if available is not None:
            row.available = available
            # Until it is read again: the step itself may go on in claim order.
            row.available_at = datetime.now(UTC) + timedelta(seconds=available - self.now)
        row.consumer, row.claim, row.lease, row.token, row.asked_to_cancel = "", None, None, None, False
        return self._to(row, verb, QUEUED)

    def _end(self, row: Row, verb: str, status: str) -> int:
        row.finished = self.now
        row.lease, row.token, row.asked_to_cancel = None, None, False
        self._to(row, verb, status)
        row.waiting = False
        if row.limited is not None:
            self._pass_on(row.limited)
        return row.n

    def _attempt_failed(self, row: Row, verb: str, after: int | None, *, retryable: bool = True) -> int:
        if row.asked_to_cancel:
            return self._end(row, verb, CANCELLED)
        if not retryable or row.attempt >= row.content.max_attempts:
            return self._end(row, verb, FAILED)
        return self._back(row, verb, self.now + (backoff(row.attempt) if after is None else after))
