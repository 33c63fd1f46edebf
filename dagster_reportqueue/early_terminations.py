"""Runs that a person terminates before their process has begun them. Dagster would leave them as they are."""

from __future__ import annotations

from dagster import DagsterInstance, DagsterRunStatus


def cancel_if_terminated(instance: DagsterInstance, run_id: str) -> bool:
    """Mark the run as canceled if it was terminated and has not ended since; return whether it was marked."""
    asked = instance.get_run_by_id(run_id)
    if asked is None or asked.status != DagsterRunStatus.CANCELING:
        return False
    instance.report_run_canceled(asked)
    return True
