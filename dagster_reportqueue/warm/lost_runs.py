"""Reports runs whose process has ended to Dagster, which would otherwise show them as running for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from dagster_reportqueue.warm.address import TAG

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 10.0
REPORT_SECONDS = 60.0
"""How long the runs of a server that died are reported while Dagster's storage does not answer."""


def how_it_ended(code: int) -> str:
    """Describe how a process ended by its exit code; a negative code is a signal's number."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (by hand, or because the machine ran out of memory)" if -code == signal.SIGKILL else ""
        return f"was killed by {name}{hint}"
    return f"exited with code {code}"


def report_deaths(instance: DagsterInstance, reasons: Mapping[str, str], *, seconds: float) -> None:
    """Fail each run for its reason, or cancel it if its termination was requested; finished runs stay as they are.

    Retries for so many seconds while Dagster's storage does not answer, and then raises the storage's error.
    """
    _retry_for(seconds, instance, reasons, _report_death)


def report_remarks(instance: DagsterInstance, remarks: Mapping[str, str], *, seconds: float) -> None:
    """Show a text in the log of each run; their status stays. Retries as `report_deaths`."""
    _retry_for(seconds, instance, remarks, _report_remark)


def write_ended(instance: DagsterInstance, run_ids: Sequence[str], descriptor: int) -> None:
    """Write the ids of the runs that have ended for Dagster, or were deleted, to a pipe: one in each line."""
    unfinished = {run.run_id for run in instance.get_runs(RunsFilter(run_ids=list(run_ids))) if not run.is_finished}
    os.write(descriptor, "\n".join(run_id for run_id in run_ids if run_id not in unfinished).encode())


def report_lost_runs(instance: DagsterInstance, server: str, reason: str, reported: frozenset[str]) -> None:
    """End the unfinished runs of a server that died, except those `reported` already; `server` is its address tag."""
    unfinished = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    runs = instance.get_runs(RunsFilter(tags={TAG: server}, statuses=unfinished))
    lost = {run.run_id: reason for run in runs if run.run_id not in reported}
    report_deaths(instance, lost, seconds=REPORT_SECONDS)


def _retry_for(
    seconds: float,
    instance: DagsterInstance,
    texts: Mapping[str, str],
    report: Callable[[DagsterInstance, DagsterRun, str], None],
) -> None:
    until = time.monotonic() + seconds
    for run_id, text in texts.items():
        pause = PAUSE_SECONDS
        while True:
            try:
                run = instance.get_run_by_id(run_id)
                if run is not None:
                    report(instance, run, text)
                break
            except Exception:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)


def _report_remark(instance: DagsterInstance, run: DagsterRun, text: str) -> None:
    instance.report_engine_event(text, run)


def _report_death(instance: DagsterInstance, run: DagsterRun, reason: str) -> None:
    if run.is_finished:
        return
    instance.report_engine_event(reason, run)
    if run.status == DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run)
    else:
        instance.report_run_failed(run)
