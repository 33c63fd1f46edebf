"""deploy/celery: Dagster accepts the instance, and systemd the worker's unit; both have what docs/celery.md says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.run_coordinator import DefaultRunCoordinator

from dagster_reportqueue.celery_launcher import ReportCeleryRunLauncher

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "celery"
UNIT = FOLDER / "reportqueue-celery-worker.service"
VARIABLES = {
    "CELERY_BROKER_URL": "redis://127.0.0.1:6379/0",
    "CELERY_RESULT_BACKEND": "redis://127.0.0.1:6379/1",
    "CODE_VERSION": "4f2a91c",
    "DAGSTER_DATABASE_URL": "postgresql+psycopg2://127.0.0.1/dagster",
}


def test_dagster_accepts_the_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(FOLDER / "dagster.yaml", tmp_path)
    ref = InstanceRef.from_dir(str(tmp_path))
    launcher = ref.run_launcher
    assert isinstance(launcher, ReportCeleryRunLauncher)
    assert (launcher.broker, launcher.backend) == ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/1")
    assert launcher.queue_named("dagster") == "dagster.4f2a91c"
    assert [origin.code_pointer.describe() for origin in launcher.warm_at_start] == [
        "from orchestrator.definitions import defs"
    ]
    assert isinstance(ref.run_coordinator, DefaultRunCoordinator)
    assert type(ref.compute_log_manager).__name__ == "DirectComputeLogManager"


def test_it_differs_from_that_of_one_machine_in_the_engine_alone():
    one, several = (
        yaml.safe_load((ROOT / "deploy" / path).read_text()) for path in ("dagster.yaml", "celery/dagster.yaml")
    )
    engine = {"run_launcher", "run_coordinator"}
    assert {key: one[key] for key in one.keys() - engine} == {key: several[key] for key in several.keys() - engine}
    assert several["run_launcher"]["config"]["preload"] == one["run_launcher"]["config"]["preload"]


def test_the_unit_names_every_variable_of_the_instance():
    comments = "".join(line for line in UNIT.read_text().splitlines() if line.startswith("#"))
    named = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", comments))
    assert named == {*VARIABLES, "DAGSTER_HOME", "REPORTQUEUE_URL", "REPORTQUEUE_TOKEN"}
    assert set(re.findall(r"env: (\w+)", (FOLDER / "dagster.yaml").read_text())) == set(VARIABLES)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path):
    unit = tmp_path / UNIT.name
    # Programs, folders and users of the machine that it is for are looked for.
    program = "/srv/reportqueue/.venv/bin/celery"
    text = UNIT.read_text().replace(program, sys.executable).replace("/srv/reportqueue", str(tmp_path))
    unit.write_text(text.replace("User=reportqueue", ""))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    checked = subprocess.run(command, capture_output=True, text=True)
    about_it = [line for line in checked.stderr.splitlines() if UNIT.name in line]
    assert about_it == []
