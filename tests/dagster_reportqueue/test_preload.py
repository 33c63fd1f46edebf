"""What is done before runs are forked: in the warm server, and in a Celery worker."""

from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from dagster_reportqueue import preload


def test_the_run_of_nothing_succeeds_and_shows_and_tells_nothing(
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """On a machine on which Dagster was never used: it would announce and send its telemetry."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    runs: list[DagsterRun] = []
    execute = preload._execute_run_command_body

    def executing(run_id: str, instance: DagsterInstance, *arguments: Any, **options: Any) -> None:
        execute(run_id, instance, *arguments, **options)
        runs.extend(instance.get_runs())

    monkeypatch.setattr(preload, "_execute_run_command_body", executing)
    preload._run_nothing()
    (run,) = runs
    assert run.status == DagsterRunStatus.SUCCESS
    assert "".join(capfd.readouterr()) == ""
    assert caplog.records == [], "it says that it has no dagster.yaml: one may think that it means the real one"
    assert list(tmp_path.iterdir()) == []
