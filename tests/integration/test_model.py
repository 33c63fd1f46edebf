"""Every verb of the queue, in any order, by consumers and runs whose answers get lost, against `model.Model`.

After each call the database must hold what the model says, row by row and attempt by attempt; rows that the model did
not write must not have changed at all; and what was told of the moves must be what the model saw.

More than the usual 25 examples: `QUEUE_MODEL_EXAMPLES=1000`.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import hypothesis
import pytest
from django.db import connection, models, transaction
from django.db.models import F
from django.test import TestCase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from reportqueue import queue, schedules
from reportqueue.errors import IdempotencyKeyReused, InvalidTransition, LeaseLost, ReportQueueError, RowNotFound
from reportqueue.models import Report, ReportAttempt, ReportQueue, ReportSchedule
from reportqueue.queue import choice
from reportqueue.signals import Transition, transitioned
from reportqueue.states import TRANSITIONS, Status
from reportqueue.timing.policies import Overlap
from tests.conftest import build_schedule
from tests.integration.model import (
    FINAL,
    FRESH,
    PERIOD,
    RUNNING,
    SETTINGS,
    SUCCEEDED,
    WITH_CONSUMER,
    Content,
    Limits,
    Model,
    Refused,
    Row,
)

THOROUGH = 1_000
EXAMPLES = int(os.environ.get("QUEUE_MODEL_EXAMPLES") or 25)
STEPS = 40
MOST_ROWS = 4
REFUSALS: dict[str, type[ReportQueueError]] = {
    "state": InvalidTransition,
    "owner": LeaseLost,
    "unknown": RowNotFound,
    "key": IdempotencyKeyReused,
}
UNREPEATABLE = {"requeue", "release_claimed", "rescue", "prune"}
"""Their repeat finds nothing left to do: refused, or a count of 0. Every other verb's is answered as the first was."""
SLACK = timedelta(seconds=50)
"""Between the model's clock, which stands still during an example, and the real one."""
TIMES = [field.name for field in ReportQueue._meta.fields if field.get_internal_type() == "DateTimeField"]
EDGES = {
    (verb.value, before.value, after.value)
    for verb, moves in TRANSITIONS.items()
    for before, reached in moves.items()
    for after in reached
} | {("enqueue", "", "queued")}
NOT_PLAYED = {("claim", "queued", "failed")}
"""That takes two thousand million claims of a row; tests/integration/test_one_bad_row.py begins at the last."""

Stored = dict[int, dict[str, Any]]


def _table(model: type[models.Model]) -> Stored:
    """Its rows by their ids. (Without the ORM: this is half of what an example does.)"""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table} ORDER BY id")  # noqa: S608
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    for row in rows:
        for name in ("params", "result"):
            if row.get(name) is not None:
                row[name] = json.loads(row[name])
    return {row["id"]: row for row in rows}


@dataclass(frozen=True)
class Call:
    """One call of a verb, as a client would keep it to repeat it."""

    verb: str
    args: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.verb}({', '.join(f'{name}={value}' for name, value in self.args.items() if value is not None)})"


@dataclass(frozen=True)
class Launch:
    """What a consumer got to know of one row by one claim."""

    n: int
    generation: int
    claim: UUID


@dataclass
class Run:
    """A run, and the token if an answer with it has arrived."""

    n: int
    generation: int
    run_id: str
    parent: str = ""
    token: UUID | None = None


KEYED = [Content(key="k1", max_attempts=1), Content(key="k2", delay=200), Content(key="k2", modifier=2)]
CONTENTS = st.one_of(
    st.builds(
        Content,
        modifier=st.sampled_from([1, 2]),
        max_attempts=st.sampled_from([2, 1, 3]),
        priority=st.sampled_from([0, 1]),
        delay=st.sampled_from([None, None, 0, 200]),
        report=st.sampled_from([1, 1, 2]),
        route=st.sampled_from(["default", "default", "b"]),
    ),
    st.sampled_from(KEYED),
)
VERBS = [
    "cancel",
    "complete",
    "fail",
    "release",
    "start",
    "claim",
    "enqueue",
    "fail_launch",
    "release_claimed",
    "requeue",
    "mark_processed",
]
CONSUMERS = st.sampled_from(["sensor-1", "sensor-1", "sensor-2"])
HOW = st.sampled_from(["once", "once", "lost", "twice"])
"""`lost`: it happens, and its caller never learns; `twice`: its caller asks again at once."""
ROWS = st.integers(1, 4)
BACK = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8])
"""Which one, counted from the newest."""
STALE = st.sampled_from([False, False, False, True])
LIKELY = st.sampled_from([True, True, True, False])
DELAYS = st.sampled_from([0, 200])
LEASES = st.sampled_from([None, None, 400])
SCHEDULES = st.integers(1, 2)


def _event(what: str, times: int = 1, /, **args: st.SearchStrategy[Any]) -> list[st.SearchStrategy[dict[str, Any]]]:
    """A method of `QueueMachine` and its arguments, `times` as often as others."""
    return [st.fixed_dictionaries({"what": st.just(what), **args})] * times


EVENTS = st.one_of(
    *_event("reports_are_asked_for", contents=st.lists(CONTENTS, min_size=1, max_size=3), how=HOW),
    *_event(
        "a_consumer_claims",
        3,
        consumer=CONSUMERS,
        remembers=st.sampled_from([True, True, False]),
        limit=st.integers(1, 4),
        lease=LEASES,
        dispatch_lease=LEASES,
        room=st.sampled_from([None, None, None, 1, 2, 3]),
        routes=st.sampled_from([None, None, None, ["default"], ["b"], ["default", "b"]]),
        how=HOW,
    ),
    *_event(
        "a_consumer_acknowledges_some_claim",
        2,
        consumer=CONSUMERS,
        back=BACK,
        stale=STALE,
        limit=st.integers(1, 2),
        how=HOW,
    ),
    *_event(
        "a_launch_comes_to_something",
        3,
        end=st.sampled_from(["start", "start", "start_too", "fail_launch", "release_claimed"]),
        stale=STALE,
        back=BACK,
        off=st.sampled_from([0, 0, 0, 0, 1, -1]),
        delay=DELAYS,
        counts=LIKELY,
        how=HOW,
    ),
    *_event(
        "a_run_calls",
        4,
        verb=st.sampled_from(["complete", "fail", "fail", "release", "cancel", "heartbeat", "start"]),
        stale=STALE,
        back=BACK,
        retryable=st.sampled_from([True, True, False]),
        delay=DELAYS,
        lease=LEASES,
        how=HOW,
    ),
    *_event("a_person_cancels", 2, n=ROWS, running=st.booleans(), how=HOW),
    *_event("a_poller_marks", n=ROWS, how=HOW),
    *_event("a_person_requeues", n=ROWS, final=LIKELY, how=HOW),
    *_event("a_person_re_executes", n=ROWS, final=LIKELY, back=st.sampled_from([0, 0, 0, 1]), how=HOW),
    *_event("time_passes", 2, seconds=st.sampled_from([100, 200, 400, 1000]), rescue=st.booleans(), how=HOW),
    *_event(
        "old_rows_are_pruned",
        older_than=st.sampled_from([500, 0, 100]),
        keep=st.integers(0, 2),
        batch=st.integers(1, 3),
    ),
    *_event("an_old_call_is_repeated", 2, verb=st.sampled_from(VERBS), back=st.integers(0, 3)),
    *_event(
        "a_run_mistakes_its_row", back=BACK, n=ROWS, verb=st.sampled_from(["complete", "fail", "release", "cancel"])
    ),
    *_event("every_token_is_tried", n=ROWS),
    *_event("the_scheduler_skips_a_firing"),
    *_event("a_schedule_fires", 4, s=SCHEDULES),
    *_event("a_schedule_is_edited", s=SCHEDULES, limited=LIKELY),
    *_event("a_schedule_is_deleted", s=SCHEDULES),
    *_event(
        "a_limit_is_set",
        report=st.sampled_from([1, 1, 2]),
        limits=st.builds(
            Limits,
            max_running=st.sampled_from([None, None, 1, 2]),
            per_modifier=st.sampled_from([None, None, 1, 2]),
            rate=st.sampled_from([None, None, 1, 3]),
            expires=st.sampled_from([None, None, 150, 350]),
        ),
    ),
    *_event(
        "something_is_paused_or_resumed",
        scope=st.sampled_from([("queue", None), ("route", "b"), ("report", 1), ("report", 2)]),
        pauses=st.booleans(),
    ),
    *_event(
        "the_same_goes_wrong_each_time", end=st.sampled_from(["fail_launch", "fail_dispatched", "release", "too_late"])
    ),
)


class QueueMachine(RuleBasedStateMachine):
    """Consumers, their runs, and people, at one queue. Each example is a savepoint that is rolled back.

    What needs a row, a launch or a run and finds none makes one, so that few steps are lost. What was called, and
    what it answered, is noted with a failure.
    """

    def __init__(self, seen: Counter[tuple[str, str, str]]) -> None:
        super().__init__()
        self.seen = seen
        self.model = Model()
        self.began = datetime.now(UTC)
        self.pks: dict[int, int] = {}
        self.schedule_pks: dict[int, int] = {}
        self.cursors: dict[str, UUID] = {}
        self.launches: list[Launch] = []
        self.runs: list[Run] = []
        self.calls: list[Call] = []
        self.made_up: set[UUID] = set()
        """Every token and claim id so far: none may come twice."""
        self.tokens: list[UUID] = []
        self.told: list[Transition] = []
        self.stored: Stored = {}
        self.attempts: Stored = {}
        transitioned.connect(self._listen)
        self.savepoint = transaction.atomic()
        self.savepoint.__enter__()

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._drive_to_the_end()
        finally:
            transitioned.disconnect(self._listen)
            transaction.set_rollback(True)
            self.savepoint.__exit__(None, None, None)

    def _listen(self, transition: Transition, **_: Any) -> None:
        self.told.append(transition)

    # What happens

    @rule(event=EVENTS)
    def happens(self, event: dict[str, Any]) -> None:
        """One rule for all: of several, hypothesis would leave out half, and few examples would come far."""
        getattr(self, event["what"])(**{name: value for name, value in event.items() if name != "what"})

    def reports_are_asked_for(self, contents: list[Content], how: str) -> None:
        if len(self.model.rows) < MOST_ROWS:
            self.do("enqueue", how, contents=contents)

    def a_consumer_claims(self, consumer: str, remembers: bool, how: str, **asked: Any) -> None:
        """And acknowledges what it has stored, unless somebody reset its cursor."""
        self._claim(consumer, self.cursors.get(consumer) if remembers else None, how, **asked)

    def a_consumer_acknowledges_some_claim(self, consumer: str, back: int, stale: bool, limit: int, how: str) -> None:
        """Its own open one, an old one, or another consumer's."""
        self._claim(consumer, self._launch(back, stale).claim, how, limit=limit)

    def a_launch_comes_to_something(
        self, end: str, stale: bool, back: int, off: int, delay: int, counts: bool, how: str
    ) -> None:
        """A run starts, one that has others starts it too, or never starts, or is not even tried.

        `off`: it makes up a generation.
        """
        launch = self._launch(back, stale)
        generation = max(1, launch.generation + off)
        if end == "start":
            self._start(self._new_run(launch.n, generation), how)
        elif end == "start_too":
            shared = Run(launch.n, generation, self._run(back).run_id)
            self.runs.append(shared)
            self._start(shared, how)
        elif end == "fail_launch":
            failed = {"n": launch.n, "generation": max(generation, 1), "run_id": "never-started"}
            self.do("fail_launch", how, **failed, counts=counts)
        else:
            self.do("release_claimed", how, n=launch.n, claim=launch.claim, delay=delay)

    def a_run_calls(
        self, verb: str, stale: bool, back: int, retryable: bool, delay: int, lease: int | None, how: str
    ) -> None:
        run = self._run(back, stale)
        if verb == "start":
            self._start(run, how, lease)
            return
        args: dict[str, dict[str, Any]] = {
            "complete": {"result": {"by": run.run_id}},
            "fail": {"retryable": retryable, "after": delay or None},
            "release": {"delay": delay, "begun": retryable},
            "heartbeat": {"lease": lease},
            "cancel": {},
        }
        self._as_owner(run, verb, how, **args[verb])

    def a_person_cancels(self, n: int, running: bool, how: str) -> None:
        self.do("cancel", how, n=self._some_row(n, (RUNNING,) if running else ()))

    def a_poller_marks(self, n: int, how: str) -> None:
        self.do("mark_processed", how, n=self._some_row(n, ()))

    def a_person_requeues(self, n: int, final: bool, how: str) -> None:
        self.do("requeue", how, n=self._some_row(n, FINAL if final else ()))

    def a_person_re_executes(self, n: int, final: bool, back: int, how: str) -> None:
        """The row's last run, or one before it."""
        n = self._some_row(n, FINAL if final else ())
        if runs := [run for run in self.runs if run.n == n]:
            last = runs[max(-1 - back, -len(runs))]
            self._start(self._new_run(n, last.generation, parent=last.run_id), how)

    def time_passes(self, seconds: int, rescue: bool, how: str) -> None:
        self._pass_time(seconds)
        if rescue:
            self.do("rescue", how)

    def old_rows_are_pruned(self, older_than: int, keep: int, batch: int) -> None:
        self.do("prune", older_than=older_than, keep=keep, batch=batch)

    def an_old_call_is_repeated(self, verb: str, back: int) -> None:
        """Its caller was cut off for long."""
        calls = [call for call in self.calls if call.verb == verb]
        if back < len(calls):
            self.do(verb, **calls[-1 - back].args)

    def a_run_mistakes_its_row(self, back: int, n: int, verb: str) -> None:
        """It uses its token, a live one, on some row."""
        run = self._run(back)
        if run.token is not None:
            self.do(verb, n=self._some_row(n), token=run.token)

    def every_token_is_tried(self, n: int) -> None:
        """Of all that were ever handed out, and one that was not, the row's live one alone works."""
        n = self._some_row(n)
        row = self.model.rows.get(n)
        for token in [*self.tokens[-12:], uuid4()]:
            with transaction.atomic():
                try:
                    queue.heartbeat(self.pks[n], lease_token=token)
                    works = True
                except (LeaseLost, RowNotFound):
                    works = False
                transaction.set_rollback(True)
            assert works == (row is not None and row.token == token)

    def the_scheduler_skips_a_firing(self) -> None:
        if len(self.model.rows) >= MOST_ROWS:
            return
        n, now = self.model.skip(), datetime.now(UTC)
        row = ReportQueue.objects.create(
            report_id=1,
            modifier_id=1,
            trigger_time=now,
            available_at=now,
            max_attempts=2,
            status=Status.SKIPPED,
            finished_at=now,
            error="overlap",
        )
        self.pks[n] = self.model.rows[n].pk = row.pk
        self._observe()

    def a_schedule_fires(self, s: int) -> None:
        if len(self.model.rows) < MOST_ROWS:
            self.do("run_now", s=self._schedule(s))

    def a_schedule_is_edited(self, s: int, limited: bool) -> None:
        self.do("set_overlap", s=self._schedule(s), limited=limited)

    def a_schedule_is_deleted(self, s: int) -> None:
        if any(not one.deleted for one in self.model.schedules.values()):
            self.do("delete_schedule", s=self._schedule(s))

    def a_limit_is_set(self, report: int, limits: Limits) -> None:
        self.do("limit", report=report, limits=limits)

    def something_is_paused_or_resumed(self, scope: tuple[str, Any], pauses: bool) -> None:
        what, which = scope
        self.do("pause" if pauses else "resume", what=what, which=which)

    def the_same_goes_wrong_each_time(self, end: str) -> None:
        """No run ever starts a row, or each one gives it back; or a run comes for a row that has expired meanwhile."""
        self._let_everything_through()
        if end == "too_late":
            self.do("limit", report=1, limits=Limits(expires=150))
            if len(self.model.rows) < MOST_ROWS:
                self.do("enqueue", contents=[Content()])
        for _ in range(4):
            for launch in self._claim("unlucky", None, limit=1, lease=400):
                if end == "fail_dispatched":
                    self._claim("unlucky", launch.claim, limit=1, lease=400)
                if end in ("fail_launch", "fail_dispatched"):
                    failed = {"n": launch.n, "generation": launch.generation, "run_id": "never-started"}
                    self.do("fail_launch", **failed, counts=True)
                elif end == "release":
                    self._as_owner(self._new_run(launch.n, launch.generation), "release", begun=True)
            if end == "too_late":
                self._pass_time(200)
                self._start(self._new_run(self._launch(0).n, 1))
                break
            self._pass_time(400)

    # Who does it

    def _schedule(self, s: int) -> int:
        """One that is not deleted; the first of an example does not allow overlaps, the second does."""
        there = [one for one, schedule in self.model.schedules.items() if not schedule.deleted]
        if len(there) < 2:
            there.append(self.do("add_schedule", limited=len(self.model.schedules) % 2 == 0))
        return there[s % len(there)]

    def _some_row(self, n: int, statuses: Sequence[str] = ()) -> int:
        """Of all that there ever were, pruned ones too; of those with these statuses, if there is one."""
        if not self.model.made:
            self.do("enqueue", contents=[Content()])
        if found := [row.n for row in self.model.rows.values() if row.status in statuses]:
            return found[n % len(found)]
        return 1 + (n - 1) % self.model.made

    def _claim(self, consumer: str, ack: UUID | None, how: str = "once", **asked: Any) -> list[Launch]:
        """Only a claim whose answer arrives is stored, and launched."""
        claim = self.do("claim", how, consumer=consumer, ack=ack, **asked)
        if claim is None or claim.claim_id is None:
            return []
        self.cursors[consumer] = claim.claim_id
        launches = [Launch(self._n(row), row.generation, claim.claim_id) for row in claim.rows]
        self.launches += [launch for launch in launches if launch not in self.launches]
        return launches

    def _launch(self, back: int, stale: bool = False) -> Launch:
        """Of a row that still is with its consumer, unless it may be `stale`."""

        def choice() -> list[Launch]:
            return [one for one in self.launches if stale or self._is_with_consumer(one)]

        if not choice() and self.model.due():
            self._claim("sensor-1", self.cursors.get("sensor-1"), limit=2)
        if not choice():
            self._let_everything_through()
            self.do("enqueue", contents=[Content()])
            self._claim("sensor-3", self.cursors.get("sensor-3"))
        launches = choice()
        return launches[-1 - back % len(launches)]

    def _is_with_consumer(self, launch: Launch) -> bool:
        row = self.model.rows.get(launch.n)
        return row is not None and row.status in WITH_CONSUMER and row.claim == launch.claim

    def _run(self, back: int, stale: bool = False) -> Run:
        """One that owns its row, unless it may be `stale`."""
        runs = [run for run in self.runs if stale or self._is_owner(run)]
        if runs:
            return runs[-1 - back % len(runs)]
        launch = self._launch(back)
        run = self._new_run(launch.n, launch.generation)
        self._start(run)
        return run

    def _is_owner(self, run: Run) -> bool:
        row = self.model.rows.get(run.n)
        return row is not None and row.status == RUNNING and row.run_id == run.run_id

    def _new_run(self, n: int, generation: int, parent: str = "") -> Run:
        run = Run(n, generation, f"run-{len(self.runs) + 1}", parent)
        self.runs.append(run)
        return run

    def _start(self, run: Run, how: str = "once", lease: int | None = None) -> None:
        row = self.do(
            "start", how, n=run.n, generation=run.generation, run_id=run.run_id, parent=run.parent, lease=lease
        )
        if row is not None:
            run.token = row.lease_token

    def _as_owner(self, run: Run, verb: str, how: str = "once", **args: Any) -> None:
        """A run that never got its token asks for it first; whether the row is still its own it cannot know."""
        if run.token is None:
            self._start(run)
        if run.token is not None:
            self.do(verb, how, n=run.n, token=run.token, **args)

    def _pass_time(self, seconds: int) -> None:
        """Every instant moves into the past: leases run out, delays are over."""
        hypothesis.note(f"    {seconds} s pass")
        self.model.now += seconds
        ReportQueue.objects.update(**{name: F(name) - timedelta(seconds=seconds) for name in TIMES})
        ReportAttempt.objects.update(started_at=F("started_at") - timedelta(seconds=seconds))
        self._observe()

    def _let_everything_through(self) -> None:
        for what, which in sorted(self.model.paused, key=str):
            self.do("resume", what=what, which=which)
        for report in list(self.model.limits):
            self.do("limit", report=report, limits=Limits())

    def _drive_to_the_end(self) -> None:
        """A consumer that goes on and runs that finish bring every row to its end, however it was left.

        Within the limits, as long as they let rows through.
        """
        for what, which in sorted(self.model.paused, key=str):
            self.do("resume", what=what, which=which)
        patience = 3
        while any(row["status"] not in FINAL for row in self.stored.values()):
            claimed = self._claim("fair", self.cursors.get("fair"))
            for launch in claimed:
                run = self._new_run(launch.n, launch.generation)
                self._start(run)
                self._as_owner(run, "complete")
            if claimed:
                patience = 3
            else:
                assert patience, "rows that never end"
                patience -= 1
                self._pass_time(1000)

    # One call, and what must be true after it

    def do(self, verb: str, how: str = "once", **args: Any) -> Any:
        """The queue's answer, as far as it arrives: None for a refusal, and for an answer that is lost."""
        call = Call(verb, args)
        self.calls.append(call)
        answer = self._compared(call)
        if how == "twice":
            again = self._compared(call)
            if verb not in UNREPEATABLE and not self._makes_rows(call):
                assert self._gist(again) == self._gist(answer), "the repeat was answered differently"
            answer = again
        return None if how == "lost" or isinstance(answer, Exception) else answer

    def _compared(self, call: Call) -> Any:
        """Both make the call: the model, and the queue. The queue's answer, or its error."""
        expected: Any
        try:
            expected = self.model.step(call.verb, **call.args)
        except Refused as refusal:
            expected = refusal
        self.told.clear()
        with TestCase.captureOnCommitCallbacks(using=connection.alias, execute=True):
            try:
                answer = getattr(self, f"_call_{call.verb}")(**call.args)
            except ReportQueueError as error:
                answer = error
        hypothesis.note(f"    {call}: {self._told(answer)}")
        if isinstance(expected, Refused):
            assert type(answer) is REFUSALS[expected.why], f"{answer!r} is not {expected!r}"
            assert answer.current_status == expected.status
        else:
            assert not isinstance(answer, Exception), f"{answer!r} is not {expected!r}"
            self._learn_new_rows(call, expected, answer)
        before = self.stored, self.attempts
        self._observe()
        self._check_what_was_told(before[0])
        self._check_the_untouched(*before)
        if not isinstance(expected, Refused):
            self._check_answer(call, expected, answer)
        return answer

    def _observe(self) -> None:
        """Read everything, take over what only the database knows, and compare the rest."""
        self.stored, self.attempts = _table(ReportQueue), _table(ReportAttempt)
        assert set(self.stored) == {row.pk for row in self.model.rows.values()}
        histories: dict[int, list[dict[str, Any]]] = {pk: [] for pk in self.stored}
        for attempt in self.attempts.values():
            histories[attempt["queue_id"]].append(attempt)
        fresh_claims = set()
        for row in self.model.rows.values():
            stored = self.stored[row.pk]
            row.available_at, row.trigger_time = stored["available_at"], stored["trigger_time"]
            row.lease_at = stored["lease_expires_at"]
            if row.token == FRESH:
                row.token = row.attempts[-1].token = self._never_seen(stored["lease_token"])
                self.tokens.append(row.token)
            if row.claim == FRESH:
                row.claim = stored["claim_id"]
                fresh_claims.add(row.claim)
            self._check_row(row, stored)
            self._check_attempts(row, stored, histories[row.pk])
        assert len(fresh_claims) <= 1
        for claim_id in fresh_claims:
            self._never_seen(claim_id)

    def _never_seen(self, value: UUID | None) -> UUID:
        assert value is not None
        assert value not in self.made_up, "a token or claim id came twice"
        self.made_up.add(value)
        return value

    def _check_row(self, row: Row, stored: dict[str, Any]) -> None:
        expected = {
            "status": row.status,
            "processed": row.status in FINAL,
            "generation": row.generation,
            "attempt": row.attempt,
            "max_attempts": row.content.max_attempts,
            "priority": row.content.priority,
            "modifier_id": row.content.modifier,
            "report_id": row.content.report,
            "route": row.content.route,
            "idempotency_key": row.content.key,
            "launch_failures": row.launch_failures,
            "unstarted_runs": row.unstarted_runs,
            "releases": row.releases,
            "alone": row.alone,
            "claimed_by": row.consumer,
            "claim_id": row.claim,
            "run_id": row.run_id,
            "lease_token": row.token,
            "cancel_requested": row.asked_to_cancel,
            "result": row.result,
            "schedule_id": row.schedule and self.schedule_pks[row.schedule],
            "concurrency_key": row.limited and self.schedule_pks[row.limited],
            "waiting": row.waiting,
        }
        assert {name: stored[name] for name in expected} == expected
        assert stored["attempt"] <= stored["max_attempts"]
        now = datetime.now(UTC)
        for name, instant in (
            ("trigger_time", row.due),
            ("available_at", row.available),
            ("lease_expires_at", row.lease),
            ("expires_at", row.expires),
            ("finished_at", row.finished),
        ):
            assert (stored[name] is None) == (instant is None), name
            if instant is not None:
                off = stored[name] - now - timedelta(seconds=instant - self.model.now)
                assert abs(off) < SLACK, f"{name} is off by {off}"
        steps = [stored[name] for name in ("claimed_at", "dispatched_at", "started_at", "finished_at")]
        known = [instant for instant in steps if instant is not None]
        assert known == sorted(known)
        if row.status == "queued":
            assert known == [], "a queued row is nobody's"

    def _check_attempts(self, row: Row, stored: dict[str, Any], history: list[dict[str, Any]]) -> None:
        found = [
            (one["run_id"], one["parent_run_id"], one["generation"], one["attempt"], one["lease_token"], one["outcome"])
            for one in history
        ]
        assert found == [
            (one.run_id, one.parent, one.generation, one.number, one.token, one.outcome) for one in row.attempts
        ]
        owners = [one["lease_token"] for one in history if one["outcome"] == ""]
        assert owners == ([stored["lease_token"]] if stored["status"] == RUNNING else []), "one owner, while it runs"
        done = Counter(one.cycle for one in row.attempts if one.outcome == SUCCEEDED)
        assert all(times == 1 for times in done.values()), "a report was made twice"

    def _check_what_was_told(self, before: Stored) -> None:
        """The moves, told after the commit, are the model's, are in the table, and lead from status to status."""
        numbers = {pk: n for n, pk in self.pks.items()}
        told = [(numbers[one.queue_id], one.verb.value, str(one.before), str(one.after)) for one in self.told]
        assert sorted(told, key=lambda move: move[0]) == sorted(self.model.moves, key=lambda move: move[0])
        status = {pk: row["status"] for pk, row in before.items()}
        for one in self.told:
            assert (one.verb.value, str(one.before), str(one.after)) in EDGES
            assert status.get(one.queue_id, "") == one.before
            status[one.queue_id] = one.after
            self.seen[(one.verb.value, str(one.before), str(one.after))] += 1
        for pk, row in self.stored.items():
            assert status[pk] == row["status"], "a status changed and nobody was told"

    def _check_the_untouched(self, rows: Stored, attempts: Stored) -> None:
        written = {self.pks[n] for n in self.model.written}
        for pk, row in self.stored.items():
            if pk not in written:
                assert rows[pk] == row, "a row changed that the call was not about"
        for pk, attempt in self.attempts.items():
            if attempt["queue_id"] not in written:
                assert attempts[pk] == attempt, "an attempt changed that the call was not about"

    def _check_answer(self, call: Call, expected: Any, answer: Any) -> None:
        if isinstance(answer, ReportQueue):
            assert self._n(answer) == expected
            self._check_answered_row(answer)
        elif isinstance(answer, queue.Claim):
            numbers = expected[1]
            held = {self.model.rows[n].claim for n in numbers}
            assert [self._n(row) for row in answer.rows] == numbers
            assert {answer.claim_id} == (held or {None})
            for row in answer.rows:
                self._check_answered_row(row)
        elif isinstance(answer, queue.Heartbeat):
            lease, asked_to_cancel = expected
            row = self.stored[self.pks[call.args["n"]]]
            assert answer == queue.Heartbeat(row["lease_expires_at"], asked_to_cancel)
            assert self.model.rows[call.args["n"]].lease == lease
        elif isinstance(answer, queue.Rescued):
            assert (answer.queued, answer.ended) == expected
        elif call.verb == "enqueue":
            for one in answer:
                self._check_answered_row(one.row)
        else:
            assert answer == expected

    def _check_answered_row(self, row: ReportQueue) -> None:
        """The answer says what is stored, without having been read again."""
        stored = self.stored[row.pk]
        answered = {name: getattr(row, name) for name in stored}
        assert answered == stored

    def _gist(self, answer: Any) -> Any:
        """Of an answer, what must be the same when it is given again: everything but the fresh lease."""
        if isinstance(answer, ReportQueue):
            return {name: getattr(answer, name) for name in self.stored[answer.pk] if name != "lease_expires_at"}
        if isinstance(answer, queue.Claim):
            return answer.claim_id, [self._gist(row) for row in answer.rows]
        if isinstance(answer, queue.Heartbeat):
            return answer.cancel_requested
        if isinstance(answer, Exception):
            # Not its text: a run that comes too late ends the row, and is then refused because it has ended.
            return type(answer), getattr(answer, "current_status", None)
        return [one.row.pk for one in answer]

    def _told(self, answer: Any) -> str:
        """For the note below a failure."""
        if isinstance(answer, ReportQueue):
            known = answer.pk in self.pks.values()
            return f"row {self._n(answer) if known else self.model.made}, {answer.status}"
        if isinstance(answer, queue.Claim):
            return f"rows {[self._n(row) for row in answer.rows]}"
        return repr(answer)

    def _makes_rows(self, call: Call) -> bool:
        return call.verb == "enqueue" and any(content.key is None for content in call.args["contents"])

    # Helpers

    def _learn_new_rows(self, call: Call, expected: Any, answer: Any) -> None:
        if call.verb == "enqueue":
            assert [one.created for one in answer] == [created for _, created in expected]
            for (n, created), one in zip(expected, answer, strict=True):
                if created:
                    self.pks[n] = self.model.rows[n].pk = one.row.pk
                assert self.pks[n] == one.row.pk

        elif call.verb == "run_now":
            self.pks[expected] = self.model.rows[expected].pk = answer.pk

    def _n(self, row: ReportQueue) -> int:
        (n,) = (n for n, pk in self.pks.items() if pk == row.pk)
        return n

    # The queue's verbs, called as the model's

    def _call_enqueue(self, contents: list[Content]) -> Any:
        new = [
            queue.NewReport(
                report_id=content.report,
                modifier_id=content.modifier,
                route=content.route,
                trigger_time=None if content.delay is None else self.began + timedelta(seconds=content.delay),
                priority=content.priority,
                max_attempts=content.max_attempts,
                idempotency_key=content.key,
            )
            for content in contents
        ]
        return queue.enqueue_many(new)

    def _call_claim(
        self,
        consumer: str,
        ack: UUID | None = None,
        limit: int = 25,
        lease: int | None = None,
        dispatch_lease: int | None = None,
        room: int | None = None,
        routes: list[str] | None = None,
    ) -> Any:
        choice.forget_turns()
        return queue.claim(
            consumer,
            ack=ack,
            limit=limit,
            lease_seconds=lease,
            dispatch_lease_seconds=dispatch_lease,
            max_in_flight=room,
            routes=routes,
        )

    def _call_limit(self, report: int, limits: Limits) -> None:
        Report.objects.update_or_create(
            report_id=report,
            defaults={
                "name": f"Report {report}",
                "max_running": limits.max_running,
                "max_running_per_modifier": limits.per_modifier,
                "rate_limit": limits.rate,
                "rate_period_seconds": None if limits.rate is None else PERIOD,
                "expires_after_seconds": limits.expires,
            },
        )

    def _call_pause(self, what: str, which: Any) -> None:
        queue.pause(**({} if which is None else {"route" if what == "route" else "report_id": which}))

    def _call_resume(self, what: str, which: Any) -> None:
        queue.resume(**({} if which is None else {"route" if what == "route" else "report_id": which}))

    def _call_release_claimed(self, n: int, claim: UUID, delay: int = 0) -> Any:
        return queue.release_claimed(self.pks[n], claim_id=claim, delay_seconds=delay)

    def _call_fail_launch(self, n: int, generation: int, run_id: str, counts: bool = True) -> Any:
        return queue.fail_launch(self.pks[n], generation=generation, run_id=run_id, error="no image", counts=counts)

    def _call_start(self, n: int, generation: int, run_id: str, parent: str = "", lease: int | None = None) -> Any:
        return queue.start(self.pks[n], generation=generation, run_id=run_id, parent_run_id=parent, lease_seconds=lease)

    def _call_heartbeat(self, n: int, token: UUID, lease: int | None = None) -> Any:
        return queue.heartbeat(self.pks[n], lease_token=token, lease_seconds=lease, progress=f"by {token}")

    def _call_complete(self, n: int, token: UUID, result: Any = None) -> Any:
        return queue.complete(self.pks[n], lease_token=token, result=result)

    def _call_fail(self, n: int, token: UUID, retryable: bool = True, after: int | None = None) -> Any:
        return queue.fail(self.pks[n], lease_token=token, error="boom", retryable=retryable, retry_after_seconds=after)

    def _call_release(self, n: int, token: UUID, delay: int = 0, begun: bool = True) -> Any:
        return queue.release(self.pks[n], lease_token=token, delay_seconds=delay, begun=begun)

    def _call_cancel(self, n: int, token: UUID | None = None) -> Any:
        return queue.cancel(self.pks[n], lease_token=token)

    def _call_requeue(self, n: int) -> Any:
        return queue.requeue(self.pks[n])

    def _call_mark_processed(self, n: int) -> Any:
        return queue.mark_processed(self.pks[n])

    def _call_add_schedule(self, limited: bool) -> int:
        overlap = Overlap.SKIP if limited else Overlap.ALLOW
        s = len(self.schedule_pks) + 1
        self.schedule_pks[s] = build_schedule(report_id=1, modifier_id=1, max_attempts=3, overlap=overlap).pk
        return s

    def _call_run_now(self, s: int) -> Any:
        return schedules.run_now(self.schedule_pks[s])

    def _call_set_overlap(self, s: int, limited: bool) -> None:
        schedule = ReportSchedule.objects.get(pk=self.schedule_pks[s])
        schedule.overlap = Overlap.SKIP if limited else Overlap.ALLOW
        schedule.save()

    def _call_delete_schedule(self, s: int) -> None:
        ReportSchedule.objects.get(pk=self.schedule_pks[s]).delete()

    def _call_rescue(self) -> Any:
        return queue.rescue_expired()

    def _call_prune(self, older_than: int, keep: int, batch: int) -> int:
        counts = [
            done.deleted for done in queue.prune(older_than=timedelta(seconds=older_than), keep=keep, batch=batch)
        ]
        assert all(1 <= count <= batch for count in counts)
        return sum(counts)


@pytest.mark.django_db
@pytest.mark.timeout(3600)
def test_the_queue_does_what_the_model_says(settings: Any, caplog: pytest.LogCaptureFixture):
    settings.REPORTQUEUE = SETTINGS
    caplog.set_level("ERROR", logger="reportqueue")
    seen: Counter[tuple[str, str, str]] = Counter()
    run_state_machine_as_test(
        lambda: QueueMachine(seen),
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            report_multiple_bugs=False,
            derandomize=EXAMPLES < THOROUGH,  # the same examples each time: new ones are looked for on purpose
        ),
    )
    if EXAMPLES >= THOROUGH:
        assert EDGES - NOT_PLAYED - set(seen) == set(), "moves that the table has and no example made"
