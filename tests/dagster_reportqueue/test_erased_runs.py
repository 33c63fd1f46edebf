"""The script of docs/data-protection.md that deletes the runs of an erased modifier in Dagster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.compute_log_manager import ComputeIOType

from dagster_reportqueue.tickets import MODIFIER_ID_TAG
from tests.documents import blocks

SCRIPT = next(block.text for block in blocks("docs/data-protection.md") if "delete_runs.py" in block.before)


@dg.op
def make() -> None:
    """Makes nothing."""


@dg.job
def report() -> None:
    """A report of one modifier, or of several."""
    make()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return tmp_path


def made(instance: dg.DagsterInstance, of: str) -> str:
    """The id of a run of these modifiers that has ended, and has printed something."""
    run_id = report.execute_in_process(instance=instance, tags={MODIFIER_ID_TAG: of} if of else {}).run_id
    with instance.compute_log_manager.open_log_stream([run_id, "compute_logs", "make"], ComputeIOType.STDOUT) as stream:
        assert stream is not None
        stream.write("printed")
    return run_id


def printed(home: Path) -> set[str]:
    """The runs of which Dagster has what they have printed."""
    return {
        path.relative_to(home / "storage").parts[0] for path in home.rglob("*.out") if path.read_text() == "printed"
    }


def test_it_deletes_the_runs_of_the_modifier_alone_with_what_they_printed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    with dg.DagsterInstance.get() as instance:
        own, listed, others, batch = (made(instance, of) for of in ("17", "", "18", "17,18"))
        started = instance.create_run_for_job(report, tags={MODIFIER_ID_TAG: "17"}).run_id
    assert printed(home) == {own, listed, others, batch}
    (home / "runs.txt").write_text(f"{listed}\n{batch}\n{listed}\nno-such-run\n")
    monkeypatch.setattr(sys, "argv", ["delete_runs.py", "17", str(home / "runs.txt")])
    capsys.readouterr()
    for _ in range(2):
        exec(compile(SCRIPT, "delete_runs.py", "exec"), {})  # noqa: S102
        assert sorted(capsys.readouterr().out.split("\n")) == sorted([f"left: {batch}", f"left: {started}", ""])
        with dg.DagsterInstance.get() as instance:
            assert {run.run_id for run in instance.get_runs()} == {others, batch, started}
            assert not instance.all_logs(own)
        assert printed(home) == {others, batch}
