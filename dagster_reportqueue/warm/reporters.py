"""Processes that the server forks to talk to Dagster's storage: a call there needs a connection, and can hang."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from dagster import DagsterInstance

from dagster_reportqueue.warm import processes, signs_of_life, worker
from dagster_reportqueue.warm.lost_runs import report_deaths, report_remarks, write_ended
from dagster_reportqueue.warm.worker import Forked

RETRY_SECONDS = 600.0
"""How long a reporter retries while Dagster's storage does not answer."""
HUNG_SECONDS = 60.0
"""How much longer such a process may take before it is killed: a storage can accept a connection and never answer."""


class Reporters:
    """Reports texts about runs to Dagster, each from a process of its own."""

    def __init__(self, instance: DagsterInstance, close_inherited: Callable[[], None]) -> None:
        """`close_inherited` is called in each forked process: it closes the server's files."""
        self._instance = instance
        self._close_inherited = close_inherited
        self._processes: dict[int, Forked] = {}

    def __iter__(self) -> Iterator[Forked]:
        return iter(self._processes.values())

    def __bool__(self) -> bool:
        return bool(self._processes)

    def report_deaths(self, reasons: Mapping[str, str]) -> None:
        """End these runs in Dagster, each for its reason."""
        self._report(reasons, partial(report_deaths, self._instance, reasons, seconds=RETRY_SECONDS))

    def report_remark(self, run_id: str, text: str) -> None:
        """Show a text in the run's log; the run's status stays."""
        self._report({run_id: text}, partial(report_remarks, self._instance, {run_id: text}, seconds=RETRY_SECONDS))

    def reaped(self, pid: int) -> None:
        """A child of the server was waited for."""
        self._processes.pop(pid, None)

    def _report(self, texts: Mapping[str, str], act: Callable[[], None]) -> None:
        for run_id, text in texts.items():
            processes.say(f"Run {run_id}: {text}")
        try:
            pid = worker.fork(act, close_inherited=self._close_inherited)
        except OSError as error:
            processes.say(f"This could not be reported to Dagster: {error}")
        else:
            self._processes[pid] = Forked(pid, time.monotonic() + RETRY_SECONDS + HUNG_SECONDS)


class Auditor:
    """Asks Dagster which runs have ended for it although their processes still run.

    Such a run was canceled by force, failed by run monitoring, or deleted.
    """

    def __init__(self, instance: DagsterInstance, seconds: float, close_inherited: Callable[[], None]) -> None:
        """It asks every so many `seconds`, about runs that are at least that old."""
        self.process: Forked | None = None
        """The process that asks now."""
        self.seconds = seconds
        self._instance = instance
        self._close_inherited = close_inherited
        self._asked = -math.inf
        self._answer: int | None = None
        """The pipe on which the process answers."""

    def is_due(self) -> bool:
        """Whether it may ask again."""
        return self.process is None and time.monotonic() >= self._asked + self.seconds

    def ask(self, run_ids: Sequence[str]) -> None:
        """Start to ask about these runs."""
        self._asked = time.monotonic()
        self._answer, answer = os.pipe()
        try:
            act = partial(_audit, self._instance, run_ids, answer)
            pid = worker.fork(act, close_inherited=self._close_inherited)
            self.process = Forked(pid, self._asked + HUNG_SECONDS)
        except OSError as error:
            processes.say(f"Dagster could not be asked about the runs: {error}")
            self.close()
        finally:
            os.close(answer)

    def reaped(self, pid: int) -> list[str]:
        """A child of the server was waited for; return the runs that have ended, if it was the process that asks."""
        if self.process is None or self.process.pid != pid or self._answer is None:
            return []
        self.process = None
        with open(self._answer) as answer:
            self._answer = None
            return answer.read().split()

    def close(self) -> None:
        """Close its pipe; also called in a forked process, which must not hold it."""
        if self._answer is not None:
            os.close(self._answer)
            self._answer = None


def _audit(instance: DagsterInstance, run_ids: Sequence[str], answer: int) -> None:
    """Write which runs have ended to a pipe, and a sign that this host lives."""
    write_ended(instance, run_ids, answer)
    signs_of_life.give(instance)
