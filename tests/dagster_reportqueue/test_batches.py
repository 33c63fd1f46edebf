"""Many reports in one run: real jobs in this process, the real web app behind HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import (
    DagsterEventType,
    DagsterExecutionInterruptedError,
    DagsterRunStatus,
    ExecuteInProcessResult,
    Failure,
    MetadataValue,
)
from django.db import connection
from django.utils import timezone

from dagster_reportqueue.client import MAX_BATCH_ROWS, QueueItem
from dagster_reportqueue.execution import batch, retry
from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.jobs import build_batch_job
from dagster_reportqueue.tickets import MAX_RUN_ROWS, STRAY_TAG, Ticket, tickets_of
from reportqueue import queue
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Outcome, Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue.front import Fault, Front
from tests.dagster_reportqueue.runs import Runner
from tests.dagster_reportqueue.waiting import NEVER, meanwhile, until

FAILED, SUCCESS, CANCELED = DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS, DagsterRunStatus.CANCELED


@pytest.fixture
def _started_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first report all others are started at once, also on a slow machine."""
    monkeypatch.setattr(batch, "AHEAD_SECONDS", 60.0)


def rows(*params: Mapping[str, Any], **fields: Any) -> list[ReportQueue]:
    """Due rows, in the order in which they are claimed."""
    return [build_row(params=dict(one), available_at=minutes_ago(60 - n), **fields) for n, one in enumerate(params)]


def statuses() -> list[str]:
    return list(ReportQueue.objects.order_by("pk").values_list("status", flat=True))


def shown(runner: Runner, result: ExecuteInProcessResult) -> list[Any]:
    """The events of the single reports."""
    entries = runner.instance.all_logs(result.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    return [entry for entry in entries if entry.dagster_event.message.startswith("Report ")]


def wait() -> None:
    threading.Event().wait(NEVER)
    raise AssertionError("nobody interrupted the work")


def work(run: ReportRun) -> Mapping[str, Any] | None:
    """`{"do": "raise"}` fails, `{"do": "wait"}` is to be interrupted, `{"do": "finish"}` is made."""
    if run.params.get("do") == "raise":
        raise ZeroDivisionError("the year has no months")
    if run.params.get("do") == "wait":
        wait()
    return {"rows": run.params.get("rows"), "artifacts": {"page": f"http://web/{run.queue_id}"}}


def test_each_report_of_a_batch_is_started_completed_and_shown_by_itself(runner: Runner):
    made = rows(*[{"rows": n} for n in range(7)])
    seen: list[ReportRun] = []

    def noting(run: ReportRun) -> Mapping[str, Any] | None:
        seen.append(run)
        assert ReportQueue.objects.get(pk=run.queue_id).status == Status.RUNNING
        return work(run)

    result = runner.make_batch(noting)
    assert (runner.status(result), statuses()) == (SUCCESS, [Status.SUCCEEDED] * 7)
    assert [run.queue_id for run in seen] == [row.pk for row in made], "in the order of the claim"
    for row, run in zip(made, seen, strict=True):
        row.refresh_from_db()
        attempt = row.attempts.get()
        assert (row.result["rows"], row.run_id, row.attempt) == (run.params["rows"], result.run_id, 1)
        assert (attempt.outcome, attempt.run_id) == (Outcome.SUCCEEDED, result.run_id)
    assert len({attempt.lease_token for attempt in ReportAttempt.objects.all()}) == 7
    events = shown(runner, result)
    assert {event.dagster_event.event_specific_data.metadata["page"] for event in events} == {
        MetadataValue.url(f"http://web/{row.pk}") for row in made
    }
    assert len(events) == 7
    assert {event.step_key for event in events} == {"report_batch"}
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert output.step_output_data.metadata["made"] == MetadataValue.int(7)


def test_a_report_that_fails_touches_no_other(runner: Runner):
    made = rows({}, {"do": "raise"}, {}, max_attempts=2)
    result = runner.make_batch(work)
    assert statuses() == [Status.SUCCEEDED, Status.QUEUED, Status.SUCCEEDED]
    assert runner.status(result) == FAILED, "somebody should look"
    assert "1 of 3 reports failed" in runner.log(result)
    made[1].refresh_from_db()
    assert made[1].error.rstrip().endswith("ZeroDivisionError: the year has no months")
    (failed,) = [event for event in shown(runner, result) if "failed after" in event.dagster_event.message]
    assert f"row {made[1].pk}, attempt 1 of 2" in failed.dagster_event.message
    assert "the year has no months" in failed.dagster_event.event_specific_data.error.message


@pytest.mark.parametrize("bad", [{"text": "x" * 70_000}, {"when": timezone.now()}, {"text": "x" * 2**21}])
def test_a_result_that_the_queue_refuses_fails_alone(runner: Runner, bad: Any):
    rows(*[{"rows": n} for n in range(6)])
    result = runner.make_batch(lambda run: bad if run.params["rows"] == 3 else {"rows": run.params["rows"]})
    assert statuses() == [*[Status.SUCCEEDED] * 3, Status.FAILED, *[Status.SUCCEEDED] * 2]
    assert "The report was made, but the queue refused its result" in runner.log(result)


def test_results_that_together_are_too_large_for_a_call_are_told_one_by_one(runner: Runner, front: Front):
    rows(*[{}] * 20)
    made = threading.Event()

    def large(run: ReportRun) -> Mapping[str, Any]:
        if not made.is_set():
            front.fail(Fault.HANG, on="complete")  # meanwhile the others are made
        made.set()
        return {"text": "x" * 65_000}

    def heal() -> None:
        front.wait_for("complete")
        until(lambda: ReportQueue.objects.filter(status=Status.RUNNING).count() == 20)
        front.heal()

    with meanwhile(heal):
        result = runner.make_batch(large, lease_seconds=60)
    assert (runner.status(result), set(statuses())) == (SUCCESS, {Status.SUCCEEDED})


def test_rows_that_have_moved_on_are_left_out(runner: Runner):
    made = rows(*[{}] * 4)
    items = runner.claim_all()
    queue.cancel(made[0].pk)
    queue.start(made[1].pk, generation=1, run_id="another")
    made[2].delete()
    worked = []
    result = runner.make_batch(lambda run: worked.append(run.queue_id), items)
    assert worked == [made[3].pk]
    assert (runner.status(result), statuses()) == (SUCCESS, [Status.CANCELLED, Status.RUNNING, Status.SUCCEEDED])
    assert runner.log(result).count("is not started; this run does not make its report") == 3


def test_a_cancel_interrupts_the_one_report_alone(runner: Runner):
    made = rows({}, {"do": "cancel"}, {}, {})

    def cancelling(run: ReportRun) -> Mapping[str, Any] | None:
        if run.params.get("do") == "cancel":
            queue.cancel(made[1].pk, reason="wrong year")
            wait()
        return work(run)

    result = runner.make_batch(cancelling)
    assert statuses() == [Status.SUCCEEDED, Status.CANCELLED, Status.SUCCEEDED, Status.SUCCEEDED]
    assert runner.status(result) == SUCCESS
    assert ReportAttempt.objects.get(queue=made[1]).outcome == Outcome.CANCELLED
    (event,) = [event for event in shown(runner, result) if "cancelled after" in event.dagster_event.message]
    assert f"row {made[1].pk}," in event.dagster_event.message


def test_a_started_report_that_is_cancelled_before_its_turn_is_not_made(runner: Runner, front: Front):
    made = rows({}, {"do": "hold"}, {}, {})
    worked: list[int | None] = []

    def holding(run: ReportRun) -> None:
        worked.append(run.queue_id)
        if run.params.get("do") == "hold":
            assert ReportQueue.objects.get(pk=made[2].pk).status == Status.RUNNING, "started ahead"
            queue.cancel(made[2].pk)
            front.wait_for("heartbeat", front.verbs().count("heartbeat") + 2)

    result = runner.make_batch(holding)
    assert worked == [made[0].pk, made[1].pk, made[3].pk]
    assert statuses() == [Status.SUCCEEDED, Status.SUCCEEDED, Status.CANCELLED, Status.SUCCEEDED]
    assert runner.status(result) == SUCCESS


def test_a_row_that_is_anothers_now_stops_its_work_alone(runner: Runner):
    made = rows({}, {"do": "lose"}, {})

    def losing(run: ReportRun) -> None:
        if run.params.get("do") == "lose":
            ReportQueue.objects.filter(pk=made[1].pk).update(lease_expires_at=minutes_ago(1))
            queue.rescue_expired()
            wait()

    result = runner.make_batch(losing)
    assert statuses() == [Status.SUCCEEDED, Status.QUEUED, Status.SUCCEEDED]
    assert "is no longer this run's; another run makes the report" in runner.log(result)


def test_rows_wait_for_their_turn_and_keep_their_leases(runner: Runner, front: Front):
    """The first report is slow, so that nothing is started ahead; then one beat is for it and one for the others."""
    made = rows(*[{}] * 4)
    items = runner.claim_all()
    begun: list[int | None] = []

    def slow(run: ReportRun) -> None:
        begun.append(run.queue_id)
        if len(begun) == 1:
            assert statuses() == [Status.RUNNING, *[Status.CLAIMED] * 3]
            ReportQueue.objects.filter(status=Status.CLAIMED).update(lease_expires_at=minutes_ago(-0.01))
            front.wait_for("heartbeat", 4)
            kept = ReportQueue.objects.filter(status=Status.CLAIMED, lease_expires_at__gt=minutes_ago(-0.03))
            assert kept.count() == 3

    result = runner.make_batch(slow, items)
    assert (runner.status(result), statuses()) == (SUCCESS, [Status.SUCCEEDED] * 4)
    assert begun == [row.pk for row in made]


def test_quick_reports_take_few_calls_and_one_heart(runner: Runner, front: Front):
    rows(*[{}] * 60)
    threads: set[str] = set()

    def counting(run: ReportRun) -> None:
        threads.update(thread.name for thread in threading.enumerate())

    assert runner.status(runner.make_batch(counting)) == SUCCESS
    calls = {verb: front.verbs().count(verb) for verb in ("start", "complete", "heartbeat")}
    assert calls["start"] <= 6, "the first alone, and then as many as a second makes"
    assert calls["complete"] <= 30
    assert {name for name in threads if name.startswith("reportqueue-")} == {
        "reportqueue-heartbeat",
        "reportqueue-lease-watch",
        "reportqueue-completions",
        *(name for name in threads if name == "reportqueue-listener"),
    }


@pytest.mark.usefixtures("_started_ahead")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_gives_back_what_is_unfinished_and_keeps_what_is_made(runner: Runner, number: signal.Signals):
    made = rows({}, {"do": "stop"}, {}, {})

    def stopping(run: ReportRun) -> None:
        if run.params.get("do") == "stop":
            assert statuses()[2:] == [Status.RUNNING] * 2, "started ahead"
            os.kill(os.getpid(), number)
            wait()

    result = runner.make_batch(stopping)
    assert statuses() == [Status.SUCCEEDED, *[Status.QUEUED] * 3]
    assert runner.status(result) == FAILED
    for row in made[1:]:
        row.refresh_from_db()
        assert (row.attempt, row.attempts.get().outcome) == (0, Outcome.RELEASED)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_an_interrupt_that_nobody_sent_is_the_reports_own_failure(runner: Runner, raised: type[BaseException]):
    made = rows({}, {"do": "stop"}, {}, max_attempts=1)

    def raising(run: ReportRun) -> None:
        if run.params.get("do") == "stop":
            raise raised

    result = runner.make_batch(raising)
    assert statuses() == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    assert runner.status(result) == FAILED
    made[1].refresh_from_db()
    assert raised.__name__ in made[1].error
    assert made[1].attempts.get().outcome == Outcome.FAILED
    assert f"The report raised {raised.__name__}, although its run was not interrupted" in runner.log(result)


def test_the_report_in_hand_goes_alone_after_an_interrupt_and_the_others_do_not(runner: Runner):
    made = rows({"do": "stop"}, {}, {})

    def stopping(run: ReportRun) -> None:
        if run.params.get("do") == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            wait()

    runner.make_batch(stopping)
    assert list(ReportQueue.objects.order_by("pk").values_list("releases", "alone")) == [
        (1, True),
        *[(0, False)] * (len(made) - 1),
    ]


def test_rows_go_one_by_one_where_that_is_asked_for(runner: Runner, front: Front):
    made = rows(*[{}] * 4)
    running: list[list[int]] = []

    def noting(run: ReportRun) -> None:
        running.append(list(ReportQueue.objects.filter(status=Status.RUNNING).values_list("pk", flat=True)))

    result = runner.make_batch(noting, one_by_one=True)
    assert (runner.status(result), statuses()) == (SUCCESS, [Status.SUCCEEDED] * 4)
    assert running == [[row.pk] for row in made]


def test_a_report_finds_the_process_as_the_first_one_found_it(runner: Runner, monkeypatch: pytest.MonkeyPatch):
    """Environment, working directory, umask, signal handlers, blocked signals and an alarm."""
    rows({"do": "change"}, {"do": "look"})
    monkeypatch.setenv("REPORT_YEAR", "2026")
    seen: list[Any] = []

    def look() -> Any:
        umask = os.umask(0o022)
        os.umask(umask)
        return (
            dict(os.environ),
            os.getcwd(),
            umask,
            signal.getsignal(signal.SIGUSR1),
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            signal.getitimer(signal.ITIMER_REAL)[0] < 900,
        )

    def changing(run: ReportRun) -> None:
        seen.append(look())
        if run.params["do"] == "change":
            os.environ.clear()
            os.chdir("/")
            os.umask(0o777)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            signal.setitimer(signal.ITIMER_REAL, 1000)

    assert runner.status(runner.make_batch(changing)) == SUCCESS
    assert seen[0] == seen[1]


@pytest.mark.usefixtures("_started_ahead")
def test_a_report_that_ignores_signals_leaves_the_next_one_interruptible(runner: Runner):
    rows({"do": "ignore"}, {"do": "stop"}, {})

    def work(run: ReportRun) -> None:
        if run.params.get("do") == "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if run.params.get("do") == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            wait()

    runner.make_batch(work)
    assert statuses() == [Status.SUCCEEDED, Status.QUEUED, Status.QUEUED]


@pytest.mark.usefixtures("_started_ahead")
def test_an_interrupt_that_the_work_swallows_ends_the_run_after_that_report(runner: Runner):
    rows({}, {"do": "stop"}, {}, {})

    def stubborn(run: ReportRun) -> None:
        if run.params.get("do") == "stop":
            with suppress(DagsterExecutionInterruptedError):
                os.kill(os.getpid(), signal.SIGTERM)
                wait()

    result = runner.make_batch(stubborn)
    assert statuses() == [Status.SUCCEEDED] * 2 + [Status.QUEUED] * 2
    assert runner.status(result) == FAILED


@pytest.mark.usefixtures("_started_ahead")
def test_an_interrupt_while_the_api_is_away_does_not_wait_for_each_row(runner: Runner, front: Front):
    rows({}, {"do": "stop"}, *[{}] * 6)

    def stopping(run: ReportRun) -> None:
        if run.params.get("do") == "stop":
            front.fail(Fault.DROP)
            os.kill(os.getpid(), signal.SIGTERM)
            wait()

    began = time.monotonic()
    runner.make_batch(stopping, lease_seconds=60)
    assert time.monotonic() - began < 4 * retry.GRACE_SECONDS, "there are seven of them"


@pytest.mark.usefixtures("_started_ahead")
def test_a_termination_in_dagster_cancels_the_report_in_hand_and_gives_back_the_others(runner: Runner):
    rows({}, {"do": "stop"}, {}, {})

    def stopping(run: ReportRun) -> None:
        if run.params.get("do") == "stop":
            dagster_run = runner.instance.get_run_by_id(run.run_id)
            assert dagster_run is not None
            runner.instance.report_run_canceling(dagster_run)
            os.kill(os.getpid(), signal.SIGINT)
            wait()

    result = runner.make_batch(stopping)
    assert statuses() == [Status.SUCCEEDED, Status.CANCELLED, Status.QUEUED, Status.QUEUED]
    assert runner.status(result) == CANCELED


def test_reports_are_told_although_the_api_is_away_for_a_while(runner: Runner, front: Front):
    rows(*[{"rows": n} for n in range(5)])

    def failing(run: ReportRun) -> Mapping[str, Any]:
        if run.params["rows"] == 4:
            front.fail(Fault.LOSE, on="complete", times=2)
        return {"rows": run.params["rows"]}

    assert runner.status(runner.make_batch(failing)) == SUCCESS
    assert [row.result["rows"] for row in ReportQueue.objects.order_by("pk")] == list(range(5))


def test_an_api_that_stays_away_ends_the_run_and_leaves_the_rows_to_their_leases(
    runner: Runner, front: Front, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.2)
    rows(*[{}] * 3)
    result = runner.make_batch(lambda run: front.fail(Fault.DROP))
    assert runner.status(result) == FAILED
    assert "does not answer" in runner.log(result)
    assert Status.SUCCEEDED not in statuses()


def test_a_failure_that_forbids_retries_is_final(runner: Runner):
    def final(run: ReportRun) -> None:
        raise Failure("no such customer", allow_retries=False)

    rows({}, {}, max_attempts=5)
    runner.make_batch(final)
    assert statuses() == [Status.FAILED] * 2


def test_a_re_execution_by_a_person_makes_the_reports_again(runner: Runner):
    made = rows({}, {})
    first = runner.make_batch(work)
    answers = queue.start_many({row.pk: 1 for row in made}, run_id="again", parent_run_id=first.run_id)
    assert [type(answer) for answer in answers.values()] == [ReportQueue] * 2


def test_a_run_names_its_rows(runner: Runner):
    made = rows({}, {})
    run = runner.instance.get_run_by_id(runner.make_batch(work).run_id)
    assert run is not None
    assert tickets_of(run) == [Ticket(row.pk, 1) for row in made]


@pytest.mark.parametrize(
    ("named", "said"), [(["7"], "queue_id:generation"), ([], "from 1 to 1,000"), (["7:x"], "queue_id:generation")]
)
def test_a_config_that_names_no_rows_is_refused(runner: Runner, named: list[str], said: str):
    result = build_batch_job(work).execute_in_process(
        run_config={"ops": {"report_batch": {"config": {"rows": named}}}},
        instance=runner.instance,
        resources=runner._resources,
        raise_on_error=False,
    )
    assert runner.status(result) == FAILED
    assert said in runner.log(result)


def test_a_batch_beyond_its_bound_is_refused(runner: Runner):
    item = QueueItem(1, 1, 1, timezone.now(), 1, 1, 1, "1:1", 0, {})
    result = runner.make_batch(work, [item] * (MAX_RUN_ROWS + 1))
    assert runner.status(result) == FAILED
    assert "A batch has from 1 to 1,000 rows; this one has 1,001" in runner.log(result)


def test_a_batch_of_more_rows_than_a_call_takes_keeps_all_leases_and_makes_all(runner: Runner, front: Front):
    number = 2 * MAX_BATCH_ROWS + 7
    for _ in range(number):
        build_row(available_at=minutes_ago(1))
    items = runner.client.claim("sensor", limit=number).items
    begun: list[int | None] = []

    def slow(run: ReportRun) -> None:
        begun.append(run.queue_id)
        if len(begun) == 1:
            ReportQueue.objects.filter(status=Status.CLAIMED).update(lease_expires_at=minutes_ago(-0.01))
            front.wait_for("heartbeat", 8)  # two rounds of four calls: one for the started row, three for the waiting
            kept = ReportQueue.objects.filter(status=Status.CLAIMED, lease_expires_at__gt=minutes_ago(-0.03))
            assert kept.count() == number - 1

    assert runner.status(runner.make_batch(slow, items)) == SUCCESS
    assert ReportQueue.objects.filter(status=Status.SUCCEEDED).count() == number
    assert begun == [item.queue_id for item in items]
    assert max(len(call.body["rows"]) for call in front.calls if "rows" in call.body) == MAX_BATCH_ROWS


def test_no_thread_is_left_behind(runner: Runner):
    rows({}, {"do": "raise"})
    runner.make_batch(work)
    ours = {"reportqueue-heartbeat", "reportqueue-lease-watch", "reportqueue-completions"}
    until(lambda: not ours & {thread.name for thread in threading.enumerate()})


@contextmanager
def held(pk: int) -> Iterator[Callable[[], None]]:
    """A stranger's transaction has locked the row; what is yielded ends it."""
    place = connection.settings_dict
    given = {"user": place["USER"], "password": place["PASSWORD"], "host": place["HOST"], "port": place["PORT"]}
    options = {key: text for key, text in given.items() if text}
    with psycopg.connect(dbname=place["NAME"], **options) as stranger:
        stranger.execute("SELECT 1 FROM reportqueue_reportqueue WHERE id = %s FOR UPDATE", [pk])
        yield stranger.rollback


def test_a_row_that_a_stranger_holds_is_started_after_the_others(runner: Runner):
    made = rows({}, {}, {}, {})
    items = runner.claim_all()
    order: list[int | None] = []

    with held(made[1].pk) as let_go:

        def noting(run: ReportRun) -> None:
            order.append(run.queue_id)
            if len(order) == 3:
                let_go()

        result = runner.make_batch(noting, items, lease_seconds=60)
    assert (runner.status(result), statuses()) == (SUCCESS, [Status.SUCCEEDED] * 4)
    assert order == [made[0].pk, made[2].pk, made[3].pk, made[1].pk]


def test_a_row_that_a_stranger_holds_for_longer_than_a_run_waits_is_left_to_another_run(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.2)
    made = rows({}, {}, {})
    items = runner.claim_all()
    with held(made[1].pk):
        result = runner.make_batch(work, items, lease_seconds=60)
    assert statuses() == [Status.SUCCEEDED, Status.CLAIMED, Status.SUCCEEDED]
    assert f"Row {made[1].pk} is not started" in runner.log(result)


def test_a_report_whose_row_a_stranger_holds_when_it_is_made_is_told_later(runner: Runner):
    made = rows({}, {"do": "lock"}, {}, {})
    told: list[list[str]] = []

    with ExitStack() as stack:
        locks: list[Callable[[], None]] = []

        def locking(run: ReportRun) -> Mapping[str, Any] | None:
            if run.params.get("do") == "lock":
                locks.append(stack.enter_context(held(made[1].pk)))
            if run.queue_id == made[3].pk:
                until(lambda: statuses()[2] == Status.SUCCEEDED)
                told.append(statuses())
                locks[0]()
            return work(run)

        result = runner.make_batch(locking, lease_seconds=60)
    assert told == [[Status.SUCCEEDED, Status.RUNNING, Status.SUCCEEDED, Status.RUNNING]]
    assert (runner.status(result), statuses()) == (SUCCESS, [Status.SUCCEEDED] * 4)
    assert set(ReportAttempt.objects.values_list("outcome", flat=True)) == {Outcome.SUCCEEDED}


def test_a_report_that_can_not_be_told_in_time_fails_alone(runner: Runner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.2)
    made = rows({}, {"do": "lock"}, {})
    with ExitStack() as stack:

        def locking(run: ReportRun) -> Mapping[str, Any] | None:
            if run.params.get("do") == "lock":
                stack.enter_context(held(made[1].pk))
            return work(run)

        result = runner.make_batch(locking, lease_seconds=60)
    assert statuses() == [Status.SUCCEEDED, Status.RUNNING, Status.SUCCEEDED], "its lease runs out"
    assert "1 of 3 reports failed" in runner.log(result)


@pytest.mark.usefixtures("_started_ahead")
def test_a_report_that_was_not_begun_is_not_charged_for_an_api_that_was_away(runner: Runner, front: Front):
    """The rows that were started ahead are marked, and the API is back at their turn."""
    rows({}, {"do": "hold"}, {}, max_attempts=2)

    def holding(run: ReportRun) -> None:
        if run.params.get("do") == "hold":
            front.fail(Fault.DROP, on="heartbeat")
            with suppress(DagsterExecutionInterruptedError):
                wait()
            front.heal()

    runner.make_batch(holding)
    row = ReportQueue.objects.order_by("pk").last()
    assert row is not None
    assert (row.status, row.attempt, row.attempts.get().outcome) == (Status.QUEUED, 0, Outcome.RELEASED)


@pytest.mark.usefixtures("_started_ahead")
def test_a_made_report_whose_row_was_locked_is_reported_although_the_run_is_interrupted(runner: Runner):
    made = rows({}, {"do": "lock"}, {"do": "stop"}, {})
    with ExitStack() as stack:
        locks: list[Callable[[], None]] = []

        def locking(run: ReportRun) -> Mapping[str, Any] | None:
            if run.params.get("do") == "lock":
                locks.append(stack.enter_context(held(made[1].pk)))
            if run.params.get("do") == "stop":
                time.sleep(3)  # longer than a call waits for a lock: the completion has been refused
                locks[0]()
                os.kill(os.getpid(), signal.SIGTERM)
                wait()
            return None

        runner.make_batch(locking, lease_seconds=60)
    assert statuses() == [Status.SUCCEEDED, Status.SUCCEEDED, Status.QUEUED, Status.QUEUED]


def test_dagsters_storage_that_takes_no_events_ends_no_batch(runner: Runner, monkeypatch: pytest.MonkeyPatch):
    rows(*[{}] * 4)
    stored = runner.instance.report_engine_event

    def away(message: str, *arguments: Any, **options: Any) -> Any:
        if message.startswith("Report "):
            raise OSError("the connection is gone")
        return stored(message, *arguments, **options)

    monkeypatch.setattr(runner.instance, "report_engine_event", away)
    assert runner.status(runner.make_batch(work)) == SUCCESS
    assert statuses() == [Status.SUCCEEDED] * 4


def test_a_batch_goes_on_without_its_working_directory(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows({}, {})
    folder = tmp_path / "release"
    folder.mkdir()
    monkeypatch.chdir(folder)
    items = runner.claim_all()

    def removing(run: ReportRun) -> None:
        if folder.exists():
            folder.rmdir()

    assert runner.status(runner.make_batch(removing, items)) == SUCCESS
    assert statuses() == [Status.SUCCEEDED] * 2


def test_a_run_that_is_terminated_for_one_stubborn_report_cancels_no_other(runner: Runner):
    rows({"do": "stop"}, {})

    def stopping(run: ReportRun) -> None:
        if run.params.get("do") == "stop":
            dagster_run = runner.instance.get_run_by_id(run.run_id)
            assert dagster_run is not None
            runner.instance.add_run_tags(run.run_id, {STRAY_TAG: "true"})
            runner.instance.report_run_canceling(dagster_run)
            os.kill(os.getpid(), signal.SIGTERM)
            wait()

    runner.make_batch(stopping)
    assert statuses() == [Status.QUEUED, Status.CLAIMED], "not cancelled, and not begun"
