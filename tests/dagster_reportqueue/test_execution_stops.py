"""Work that is to stop: a cancel, a lost lease, an API that is gone, signals; and that it does so in time."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dagster import DagsterExecutionInterruptedError, DagsterRunStatus, OpExecutionContext, job, op
from django.utils import timezone

from dagster_reportqueue.client import Started
from dagster_reportqueue.execution import retry, run
from dagster_reportqueue.execution.interrupts import Interrupts
from dagster_reportqueue.execution.leases import HeldLease, LeaseKeeper
from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.execution.run import run_report
from dagster_reportqueue.jobs import build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import Ticket
from reportqueue import queue
from reportqueue.models import ReportQueue
from reportqueue.states import Outcome, Status
from tests.conftest import build_row, minutes_ago
from tests.dagster_reportqueue.front import Fault, Front, Reply
from tests.dagster_reportqueue.runs import LEASE_SECONDS, Runner, the_row
from tests.dagster_reportqueue.waiting import NEVER, in_thread, meanwhile, until

FAILED, SUCCESS, CANCELED = DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS, DagsterRunStatus.CANCELED


def wait() -> None:
    threading.Event().wait(NEVER)
    raise AssertionError("nobody interrupted the work")


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    yield
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert not [handler for handler in handlers if isinstance(getattr(handler, "__self__", None), Interrupts)]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def asked_to_cancel() -> None:
    queue.cancel(the_row().pk, reason="wrong year")


def given_to_another() -> None:
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    queue.rescue_expired()


def test_a_cancel_interrupts_the_work_and_cancels_row_and_run(runner: Runner):
    cleaned_up = []

    def work(run: ReportRun) -> None:
        asked_to_cancel()
        try:
            wait()
        finally:
            cleaned_up.append(run.stop_requested())

    build_row()
    began = time.monotonic()
    result = runner.make(work)
    row = the_row()
    assert (runner.status(result), row.status, row.error) == (CANCELED, Status.CANCELLED, "wrong year")
    assert row.attempts.get().outcome == Outcome.CANCELLED
    assert cleaned_up == [True]
    assert time.monotonic() - began < LEASE_SECONDS, "the first beat brings the news"
    assert "Cancelled in the report queue." in runner.log(result)


def test_a_cancel_is_obeyed_by_work_that_swallows_the_interrupt(runner: Runner):
    def work(run: ReportRun) -> dict[str, Any]:
        asked_to_cancel()
        try:
            wait()
        except DagsterExecutionInterruptedError:
            return {"rows": "half of them"}
        raise AssertionError

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status, the_row().result) == (CANCELED, Status.CANCELLED, None)


def test_a_cancel_ends_work_that_fails_on_being_interrupted(runner: Runner):
    def work(run: ReportRun) -> None:
        asked_to_cancel()
        try:
            wait()
        except DagsterExecutionInterruptedError:
            raise ConnectionError("the database went away") from None

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status) == (CANCELED, Status.CANCELLED)


def test_a_cancel_in_anybodys_own_job_stops_what_would_follow(runner: Runner):
    followed = []

    @op
    def render(context: OpExecutionContext, report_queue: ReportQueueResource) -> str:
        def work(run: ReportRun) -> None:
            asked_to_cancel()
            wait()

        ticket = Ticket.of_run(context.run.tags)
        assert ticket is not None
        return str(run_report(context, report_queue.client(), ticket, work, lease_seconds=LEASE_SECONDS))

    @op
    def deliver(text: str) -> None:
        followed.append(text)

    @job
    def render_and_deliver() -> None:
        deliver(render())

    build_row()
    result = runner.run(render_and_deliver, runner.claim(), config=None)
    assert (runner.status(result), the_row().status, followed) == (CANCELED, Status.CANCELLED, [])


def test_a_cancel_that_comes_after_the_work_is_too_late(runner: Runner, front: Front):
    def work(run: ReportRun) -> dict[str, Any]:
        front.fail(Reply(502), on="complete")
        return {"rows": 3}

    def cancel() -> None:
        front.wait_for("complete")
        beats = front.verbs().count("heartbeat")
        asked_to_cancel()
        front.wait_for("heartbeat", beats + 2)
        front.heal()

    build_row()
    with meanwhile(cancel):
        result = runner.make(work)
    assert (runner.status(result), the_row().status, the_row().result) == (SUCCESS, Status.SUCCEEDED, {"rows": 3})


def test_a_cancel_that_cannot_be_told_still_cancels_the_run(
    runner: Runner, front: Front, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.2)

    def work(run: ReportRun) -> None:
        asked_to_cancel()
        try:
            wait()
        finally:
            front.fail(Fault.DROP)

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status) == (CANCELED, Status.RUNNING)
    assert "The end of this run could not be reported to the queue" in runner.log(result)
    ReportQueue.objects.update(lease_expires_at=minutes_ago(1))
    queue.rescue_expired()
    assert the_row().status == Status.CANCELLED


def test_a_row_that_is_anothers_now_stops_the_work_and_fails_the_run(runner: Runner):
    def work(run: ReportRun) -> None:
        given_to_another()
        wait()

    build_row()
    began = time.monotonic()
    result = runner.make(work)
    row = the_row()
    assert (runner.status(result), row.status) == (FAILED, Status.QUEUED)
    assert "is no longer this run's; another run makes the report" in runner.log(result)
    assert row.attempts.get().outcome == Outcome.EXPIRED
    assert time.monotonic() - began < LEASE_SECONDS


def test_a_report_that_was_made_for_a_row_that_is_anothers_now_fails_the_run(runner: Runner):
    build_row()
    result = runner.make(lambda run: given_to_another())
    assert (runner.status(result), the_row().status) == (FAILED, Status.QUEUED)
    assert "The report was made, but the row is no longer this run's" in runner.log(result)


def test_an_api_that_hangs_stops_the_work_before_the_lease_ends(runner: Runner, front: Front):
    left: list[float] = []

    def work(run: ReportRun) -> None:
        front.fail(Fault.HANG)
        try:
            wait()
        finally:
            left.append((the_row().lease_expires_at - timezone.now()).total_seconds())
            front.heal()

    build_row()
    result = runner.make(work)
    assert 0.5 < left[0] < LEASE_SECONDS / 2, "in time, and not before it was necessary"
    row = the_row()
    assert (runner.status(result), row.status, row.attempt) == (FAILED, Status.QUEUED, 1)
    assert "no heartbeat reached the queue" in runner.log(result)
    assert "no heartbeat reached the queue" in row.attempts.get().error, "the API is back, and is told"


def test_an_api_that_stays_away_fails_the_run_soon(runner: Runner, front: Front, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "GRACE_SECONDS", 0.2)

    def work(run: ReportRun) -> None:
        front.fail(Fault.DROP)
        wait()

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status) == (FAILED, Status.RUNNING)
    assert "The end of this run could not be reported to the queue" in runner.log(result)


def test_the_lease_counts_from_the_start_that_was_answered(
    runner: Runner, front: Front, monkeypatch: pytest.MonkeyPatch
):
    noted: list[float] = []

    class Noting(LeaseKeeper):
        def add(self, started: Started, *, sent: float) -> HeldLease:
            noted.append(sent)
            return super().add(started, sent=sent)

    monkeypatch.setattr(run, "LeaseKeeper", Noting)
    build_row()
    item = runner.claim()
    front.fail(Fault.DROP, on="start", times=2)
    assert runner.status(runner.run(build_report_job(lambda run: None), item)) == SUCCESS
    arrived = [call.at for call in front.calls if call.verb == "start"]
    assert arrived[1] < noted[0] <= arrived[2]


def test_work_in_another_thread_is_told_on_asking(runner: Runner):
    def work(run: ReportRun) -> dict[str, Any]:
        asked_to_cancel()
        until(run.stop_requested)
        return {"rows": "half of them"}

    build_row()
    item = runner.claim()
    with ThreadPoolExecutor(1) as pool:
        result = in_thread(pool, runner.run, build_report_job(work, lease_seconds=LEASE_SECONDS), item).result(NEVER)
    assert (runner.status(result), the_row().status, the_row().result) == (CANCELED, Status.CANCELLED, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_from_outside_gives_the_row_back(runner: Runner, number: signal.Signals):
    def work(run: ReportRun) -> None:
        send(number)
        wait()

    build_row(max_attempts=1)
    result = runner.make(work)
    row = the_row()
    assert (runner.status(result), row.status, row.attempt) == (FAILED, Status.QUEUED, 0)
    assert row.attempts.get().outcome == Outcome.RELEASED
    assert row.error == f"Run {result.run_id} was interrupted from outside; it returned the row to the queue."
    assert runner.claim().generation == 2, "and it can be made again"


@pytest.mark.parametrize("status", ["canceling", "canceled"])
def test_a_run_that_is_terminated_in_dagster_cancels_its_row(runner: Runner, status: str):
    def work(run: ReportRun) -> None:
        dagster_run = runner.instance.get_run_by_id(run.run_id)
        assert dagster_run is not None
        getattr(runner.instance, f"report_run_{status}")(dagster_run)
        send(signal.SIGINT)
        wait()

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status) == (CANCELED, Status.CANCELLED)
    assert the_row().error == f"Run {result.run_id} was terminated in Dagster."


def test_an_interrupt_is_noticed_although_the_work_makes_another_error_of_it(runner: Runner):
    def work(run: ReportRun) -> None:
        try:
            send(signal.SIGTERM)
            wait()
        except DagsterExecutionInterruptedError:
            raise ConnectionError("the database went away") from None

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status, the_row().attempt) == (FAILED, Status.QUEUED, 0)


def test_an_interrupt_does_not_cut_the_last_call_in_half(runner: Runner, front: Front):
    def work(run: ReportRun) -> dict[str, Any]:
        front.fail(Fault.HANG, on="complete")
        return {"rows": 3}

    def interrupt() -> None:
        front.wait_for("complete")
        send(signal.SIGTERM)
        front.heal()

    build_row()
    with meanwhile(interrupt):
        result = runner.make(work)
    assert (the_row().status, the_row().result) == (Status.SUCCEEDED, {"rows": 3})
    assert runner.status(result) == FAILED, "whoever interrupted the run meant all of it"


def test_an_interrupt_does_not_wait_for_an_api_that_is_away(runner: Runner, front: Front, monkeypatch):
    monkeypatch.setattr(retry, "GRACE_SECONDS", 0.2)

    def work(run: ReportRun) -> dict[str, Any]:
        front.fail(Fault.DROP, on="complete")
        return {"rows": 3}

    def interrupt() -> None:
        front.wait_for("complete")
        send(signal.SIGTERM)

    build_row()
    began = time.monotonic()
    with meanwhile(interrupt):
        result = runner.make(work)
    assert runner.status(result) == FAILED
    assert time.monotonic() - began < 5
    assert the_row().status == Status.RUNNING, "its lease runs out"


def test_an_interrupt_before_the_start_ends_the_run_without_work(runner: Runner, front: Front, monkeypatch):
    monkeypatch.setattr(retry, "GRACE_SECONDS", 0.2)
    worked: list[ReportRun] = []

    def interrupt() -> None:
        front.wait_for("start")
        send(signal.SIGINT)

    build_row()
    item = runner.claim()
    front.fail(Fault.DROP, on="start")
    with meanwhile(interrupt):
        result = runner.run(build_report_job(worked.append), item)
    assert (runner.status(result), worked, the_row().status) == (FAILED, [], Status.CLAIMED)


def test_an_interrupt_while_the_row_is_started_gives_it_back_without_work(runner: Runner, front: Front):
    worked: list[ReportRun] = []

    def interrupt() -> None:
        front.wait_for("start")
        send(signal.SIGTERM)
        front.heal()

    build_row()
    item = runner.claim()
    front.fail(Fault.HANG, on="start")
    with meanwhile(interrupt):
        result = runner.run(build_report_job(worked.append), item)
    assert (runner.status(result), worked, the_row().status, the_row().attempt) == (FAILED, [], Status.QUEUED, 0)
    assert the_row().attempts.get().outcome == Outcome.RELEASED
    assert (the_row().releases, the_row().alone) == (0, False), "it was not begun"


def test_a_second_interrupt_does_not_keep_the_row_from_being_given_back(runner: Runner, front: Front):
    def work(run: ReportRun) -> None:
        front.fail(Fault.HANG, on="release")
        send(signal.SIGTERM)
        wait()

    def interrupt() -> None:
        front.wait_for("release")
        send(signal.SIGINT)
        front.heal()

    build_row()
    with meanwhile(interrupt):
        result = runner.make(work)
    assert (runner.status(result), the_row().status) == (FAILED, Status.QUEUED)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interrupt_that_nobody_sent_is_the_reports_own_failure(runner: Runner, raised: type[BaseException]):
    def work(run: ReportRun) -> None:
        raise raised

    build_row(max_attempts=1)
    result = runner.make(work)
    assert (runner.status(result), the_row().status) == (FAILED, Status.FAILED)
    assert the_row().attempts.get().outcome == Outcome.FAILED
    assert raised.__name__ in the_row().error
    assert f"The report raised {raised.__name__}, although its run was not interrupted" in runner.log(result)


def test_a_report_that_interrupts_its_own_run_is_put_off_and_in_the_end_fails(runner: Runner, settings: Any):
    settings.REPORTQUEUE = {"MAX_RELEASES": 2, "RETRY_JITTER": 0}
    delays = []
    build_row(max_attempts=1)
    for _ in range(3):
        ReportQueue.objects.update(available_at=minutes_ago(1))
        runner.make(lambda run: send(signal.SIGTERM) or wait())
        delays.append(the_row().available_at > timezone.now())
    assert delays == [False, True, False]
    assert (the_row().status, the_row().attempt, the_row().releases) == (Status.FAILED, 1, 3)
