"""The output of a run is kept as Dagster keeps it, without further processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster import instance_for_test
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

from dagster_reportqueue.compute_logs import DirectComputeLogManager
from tests.dagster_reportqueue.daemon import ROOT

OURS = {"compute_logs": {"module": "dagster_reportqueue.compute_logs", "class": "DirectComputeLogManager"}}
PROGRAM = """
import json
import subprocess
import sys
from pathlib import Path

import psutil
from dagster import DagsterEventType, instance_for_test, job, op


@op
def speaks():
    print("said by Python", flush=True)
    helpers.append(len(psutil.Process().children(recursive=True)))
    subprocess.run("echo said by a child; echo complained >&2", shell=True, check=True)


@job
def speaking():
    speaks()


helpers = []
with instance_for_test(json.loads(sys.argv[1])) as instance:
    run_id = speaking.execute_in_process(instance=instance).run_id
    (captured,) = instance.all_logs(run_id, of_type=DagsterEventType.LOGS_CAPTURED)
    key = [run_id, "compute_logs", captured.dagster_event.event_specific_data.file_key]
    manager = instance.compute_log_manager
    data = manager.get_log_data(key)
    folder = Path(manager.get_captured_local_path(key, "out")).parent.relative_to(instance.root_directory)
    found = {
        "out": data.stdout.decode(),
        "complained": "complained\\n" in data.stderr.decode(),
        "folder": str(folder).replace(run_id, "RUN"),
        "complete": manager.is_capture_complete(key),
        "helpers": helpers[0],
    }
print(json.dumps(found))
"""


def captured(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagster has of a run's output; the run is in a process of its own, as it is with a launcher."""
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(overrides)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_it_is_kept_where_dagster_keeps_it_and_no_helper_runs():
    ours, theirs = captured(OURS), captured({})
    assert ours == {
        "out": "said by Python\nsaid by a child\n",
        "complained": True,
        "folder": theirs["folder"],
        "complete": True,
        "helpers": 0,
    }
    assert theirs.pop("helpers") > 0, "Dagster needs no helpers any more: then neither does it need this"
    assert theirs.items() <= ours.items()


def test_the_folder_may_be_named(tmp_path: Path):
    config = {"compute_logs": {**OURS["compute_logs"], "config": {"base_dir": str(tmp_path)}}}
    with instance_for_test(config) as instance:
        manager = instance.compute_log_manager
        assert isinstance(manager, DirectComputeLogManager)
        assert manager.get_captured_local_path(["run"], "out") == str(tmp_path / "run.out")


def test_without_a_folder_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(DagsterInvariantViolationError, match="needs `base_dir` in dagster"):
        DirectComputeLogManager.from_config_value(None, {})


def test_it_takes_the_options_of_dagsters_own():
    assert set(DirectComputeLogManager.config_type()) == set(LocalComputeLogManager.config_type())
