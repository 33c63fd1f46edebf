"""Run processes: the product's code around a run, with a report that takes its time or behaves badly.

A report's kind is in its params: `ok`, or one of `BAD`. Each work writes its begin and its end into the history.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from dagster import DagsterExecutionInterruptedError, DagsterRunStatus, Failure

from dagster_reportqueue.client import ApiError
from dagster_reportqueue.execution.batch import run_reports
from dagster_reportqueue.execution.report import ReportRun
from dagster_reportqueue.execution.run import run_report
from dagster_reportqueue.tickets import BATCH_OP, BATCH_TAG, FiringTicket, Ticket
from tools.simulator import faults
from tools.simulator.chance import Chance
from tools.simulator.daemon import log_for
from tools.simulator.faults import Faults
from tools.simulator.history import History
from tools.simulator.instance import Instance, Record
from tools.simulator.machine import process_now
from tools.simulator.network import Resource
from tools.simulator.settings import LEASE_SECONDS
from tools.simulator.world import Killed, Process, World

OK, CRASH, CRASH_ONCE, RAISE, RAISE_ONCE = "ok", "crash", "crash once", "raise", "raise once"
NOT_RETRYABLE, INTERRUPT, HANG = "not retryable", "interrupt", "hang"
BAD = (CRASH, CRASH_ONCE, RAISE, RAISE_ONCE, NOT_RETRYABLE, INTERRUPT, HANG)
FOR_EVER = 10_000_000.0
"""Seconds for which a report hangs: until its process is killed."""
STOP_SECONDS = 10.0
"""How long a run that was told to end may take; then it is killed."""


class ReportFailed(Exception):
    """A report raised, as it was meant to."""


@dataclass
class Runs:
    """Starts the processes of one deployment's runs."""

    world: World
    chance: Chance
    struck: Faults
    history: History
    instance: Instance
    skew: float

    def launch(self, record: Record) -> Process:
        """Start the process of a run."""
        run_id = record.dagster_run.run_id
        process = self.world.process(f"run {run_id}", skew=self.skew)
        process.facts["run"] = run_id
        process.handlers |= {signal.SIGTERM: _interrupted, signal.SIGINT: _interrupted}
        process.on_death.append(lambda: self.history.write("death", run=run_id))
        delay = self.chance.pick((0.05, 0.3, 2.0, 15.0), "start", run_id)
        self.world.spawn(process, f"run {run_id}", lambda: self._body(record), delay=delay)
        return process

    def terminate(self, process: Process) -> None:
        """Tell a process to end, and kill it later."""
        self.world.signal(process, signal.SIGTERM)

        def kill() -> None:
            if not process.gone:
                self.world.kill(process)

        self.world.later(STOP_SECONDS, f"kill {process.name}", kill)

    def _body(self, record: Record) -> None:
        """What a run's process does, from its start to its end in Dagster's storage."""
        run_id = record.dagster_run.run_id
        try:
            self.world.pause()
            if record.dagster_run.status != DagsterRunStatus.STARTING:
                return  # it was cancelled before it started
            self.instance.to(run_id, DagsterRunStatus.STARTED)
            self._execute(record)
            end = DagsterRunStatus.SUCCESS
        except (DagsterExecutionInterruptedError, Failure, ApiError, ReportFailed) as error:
            self.history.tell(run_id, f"ends with {type(error).__name__}: {str(error)[:200]}")
            canceling = record.dagster_run.status == DagsterRunStatus.CANCELING
            end = DagsterRunStatus.CANCELED if canceling else DagsterRunStatus.FAILURE
        process_now().handlers.clear()
        self.world.pause()
        self.instance.to(run_id, end)

    def _execute(self, record: Record) -> None:
        run = record.dagster_run
        context, client = self._context(record), Resource().client()
        if BATCH_TAG in run.tags:
            config = run.run_config["ops"][BATCH_OP]["config"]
            tickets = [Ticket.parse(row) for row in config["rows"]]
            one_by_one = config.get("one_by_one", False)
            run_reports(context, client, tickets, self.work, lease_seconds=LEASE_SECONDS, one_by_one=one_by_one)
        else:
            ticket = FiringTicket.of_run(run.tags) or Ticket.of_run(run.tags)
            assert ticket is not None
            run_report(context, client, ticket, self.work, lease_seconds=LEASE_SECONDS)

    def _context(self, record: Record) -> Any:
        run_id = record.dagster_run.run_id
        context = SimpleNamespace(
            run_id=run_id,
            run=record.dagster_run,
            instance=self.instance,
            retry_number=0,
            has_partition_key=False,
            log=log_for(self.history, run_id),
            get_step_execution_context=lambda: SimpleNamespace(step=SimpleNamespace(key="report")),
        )
        context.op_execution_context = context
        return context

    def work(self, run: ReportRun) -> dict[str, Any]:
        """The report's code."""
        facts = {"row": run.queue_id, "run": run.run_id}
        process = process_now()
        if process.dead:
            raise Killed  # the product's handling of an error may have replaced the first one
        kind = str(run.params.get("kind", OK))
        once = ("work", run.queue_id, run.run_id)
        seconds = self.chance.between(*run.params.get("seconds", (0.1, 20)), *once)
        steps = 1 + int(seconds / 10)
        process.facts["row"] = run.queue_id
        self.history.write("begin", **facts)
        self.history.tell(run.run_id, f"begins row {run.queue_id} ({kind})")
        sometimes = kind in (CRASH_ONCE, RAISE_ONCE)
        bad = kind != OK and not (sometimes and self.chance.happens(0.5, "once", run.queue_id, run.run_id))
        place = self.chance.whole(0, steps - 1, "place", *once)
        try:
            for step in range(steps):
                if bad and step == place:
                    self._misbehave(kind, facts)
                self.world.sleep(seconds / steps)
                self.world.pause()
        except Killed:
            raise
        except BaseException as error:
            outcome = "interrupted" if isinstance(error, DagsterExecutionInterruptedError) else "raise"
            self._ended(facts, outcome)
            raise
        self._ended(facts, "ok")
        return {"run": run.run_id}

    def _ended(self, facts: dict[str, Any], outcome: str) -> None:
        process = process_now()
        if process.dead:
            return
        process.facts.pop("row", None)
        self.history.write("end", **facts, outcome=outcome)
        self.history.tell(facts["run"], f"ends row {facts['row']}: {outcome}")

    def _misbehave(self, kind: str, facts: dict[str, Any]) -> None:
        process = process_now()
        name = f"{facts['run']}/{facts['row']}"
        point = _POINTS.get(kind, faults.RAISES)
        if not self.struck.note(name, point, process, row=facts["row"]):
            return
        if point == faults.CRASHES:
            self.world.kill(process)
        if point == faults.INTERRUPTS:
            self.world.signal(process, signal.SIGTERM)
            return
        if point == faults.HANGS:
            self.history.write("stop", run=facts["run"])
            self.world.freeze(process, FOR_EVER)
            return
        if kind == NOT_RETRYABLE:
            raise Failure("never again", allow_retries=False)
        raise ReportFailed("as it was meant to")


_POINTS = {
    CRASH: faults.CRASHES,
    CRASH_ONCE: faults.CRASHES,
    INTERRUPT: faults.INTERRUPTS,
    HANG: faults.HANGS,
}


def _interrupted(number: int, frame: Any) -> None:
    raise DagsterExecutionInterruptedError
