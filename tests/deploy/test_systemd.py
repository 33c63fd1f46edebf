"""deploy/systemd: systemd accepts the units, what they start exists, and it has the time to end."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from reportqueue import gunicorn
from tests.deploy.files import DEPLOY, ROOT, Unit, document, units

PLACE = "/opt/reportqueue"
UNITS = {unit.name.removeprefix("reportqueue-").removesuffix(".service"): unit for unit in units()}
DAGSTER = [unit for name, unit in UNITS.items() if name.startswith("dagster-")]
EXPOSED = 25
"""Tenths: what systemd calls OK ends at 5.0, and a unit without any option has 9.2."""
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units, with the places of this checkout and its environment instead of theirs."""
    for path in (DEPLOY / "systemd").glob("*.service"):
        text = path.read_text().replace(f"{PLACE}/.venv", sys.prefix).replace(PLACE, str(ROOT))
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    names = sorted(path.name for path in folder.iterdir())
    command = [ANALYZE, *arguments, *(f"./{name}" for name in names)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_there_is_one_for_each_process():
    assert set(UNITS) == {"web", "scheduler", "dagster-code", "dagster-daemon", "dagster-webserver"}


@needs_systemd
def test_systemd_accepts_them(folder: Path):
    checked = analyze("verify", folder=folder)
    assert (checked.returncode, checked.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_a_setting_that_it_does_not_know(folder: Path):
    path = folder / "reportqueue-web.service"
    path.write_text(path.read_text().replace("TimeoutStopSec", "TimeoutEndSec"))
    assert "TimeoutEndSec" in analyze("verify", folder=folder).stderr


@needs_systemd
def test_each_is_hardened(folder: Path):
    checked = analyze("security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager", folder=folder)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_what_it_starts_exists_and_has_time_to_end(unit: Unit):
    program, *arguments = shlex.split(unit.one("ExecStart"))
    assert program.startswith(f"{PLACE}/.venv/bin/")
    assert (Path(sys.executable).parent / Path(program).name).exists()
    assert unit.one("WorkingDirectory") == PLACE
    modules = [argument.partition(":")[2] for argument in arguments if argument.startswith("python:")]
    modules += [after for before, after in pairwise(arguments) if before == "-m"]
    modules += [argument for argument in arguments if re.fullmatch(r"\w+\.wsgi", argument)]
    modules += [unit.variables["DJANGO_SETTINGS_MODULE"]] if "DJANGO_SETTINGS_MODULE" in unit.variables else []
    for module in modules:
        assert find_spec(module) is not None, module
    for argument in arguments:
        if argument.endswith(".py"):
            assert (ROOT / argument).exists()
    assert int(unit.one("TimeoutStopSec")) > gunicorn.graceful_timeout
    assert unit.one("User") == "reportqueue"


def test_the_dagster_units_can_find_the_warm_server_of_each_other():
    """Its socket is in /tmp, and its address names the host."""
    assert len(DAGSTER) == 3
    for unit in DAGSTER:
        assert not unit.all("PrivateTmp")
        assert not unit.all("ProtectHostname")
        assert unit.one("ReadWritePaths").split()[0] == "/tmp"  # noqa: S108
        assert unit.variables["DAGSTER_HOME"] == f"/var/lib/{unit.one('StateDirectory')}"


def test_the_runs_end_with_the_daemon():
    """They are in its group: with systemd's default, all of them are asked to end."""
    assert UNITS["dagster-daemon"].all("KillMode") == []
    assert UNITS["web"].one("KillMode") == "mixed"


def test_the_ports_are_those_of_the_workspace_and_of_the_proxy():
    code = document(DEPLOY / "systemd" / "workspace.yaml")["load_from"][0]["grpc_server"]
    said = UNITS["dagster-code"].one("ExecStart")
    assert f"-h {code['host']} -p {code['port']}" in said
    web = re.search(r"--bind (\S+)", UNITS["web"].one("ExecStart"))
    assert web is not None
    assert f"server {web[1]};" in (DEPLOY / "nginx.conf").read_text()
