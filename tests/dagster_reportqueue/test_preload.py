"""What the warm server does before it forks runs."""

from contextlib import nullcontext

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from dagster_reportqueue.warm import preload


def test_the_run_of_nothing_succeeds_and_shows_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with DagsterInstance.local_temp() as instance:
        monkeypatch.setattr(preload.DagsterInstance, "local_temp", lambda: nullcontext(instance))
        preload._run_nothing()
        (run,) = instance.get_runs()
    assert run.status == DagsterRunStatus.SUCCESS
    assert "".join(capfd.readouterr()) == ""
