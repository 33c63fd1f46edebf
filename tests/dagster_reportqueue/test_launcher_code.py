"""Which code a run of the warm launcher executes: always that of the disk, or none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterRunStatus
from dagster._core.code_pointer import ModuleCodePointer

from dagster_reportqueue.code_version import Sources
from dagster_reportqueue.pooling import close_connections
from dagster_reportqueue.warm.coordinator import WarmRunCoordinator, is_daemon
from dagster_reportqueue.warm.launcher import LaunchFailed, WarmRunLauncher
from tests.dagster_reportqueue.daemon import ROOT
from tests.dagster_reportqueue.waiting import until
from tests.dagster_reportqueue.warm import Warm, gone, warm_instance
from tests.dagster_reportqueue.warm_location import NOTES

CODE = """
from pathlib import Path
from dagster import Definitions, in_process_executor, job, op
{prelude}

@op
def act(context):
    {body}

@job(executor_def=in_process_executor)
def acting_job():
    act()

defs = Definitions(jobs=[acting_job])
"""


@pytest.fixture
def warm(storage: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warm]:
    """An instance without a server yet."""
    (tmp_path / "code").mkdir()
    monkeypatch.setenv(NOTES, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ROOT)
    with warm_instance(storage, tmp_path) as warm:
        yield warm


class Code:
    """A code location whose source changes; what its runs say is in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.module = folder / f"{name}.py"
        self.pointer = ModuleCodePointer(name, "defs", str(folder))
        self._said = folder / "said"

    def write(self, body: str, prelude: str = "") -> None:
        said = f"Path({str(self._said)!r})"
        self.module.write_text(CODE.format(prelude=prelude, body=body.replace("SAID", said)))

    def said(self) -> str:
        return self._said.read_text()


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path / "code", "changing_location")


def test_a_run_executes_the_code_as_it_is_now(warm: Warm, code: Code):
    code.write("SAID.write_text('old')")
    first = warm.launch(pointer=code.pointer)
    assert warm.ended(first) == DagsterRunStatus.SUCCESS
    assert code.said() == "old"
    code.write("SAID.write_text('newer')")
    second = warm.launch(pointer=code.pointer)
    assert warm.ended(second) == DagsterRunStatus.SUCCESS
    assert code.said() == "newer"
    until(lambda: gone(warm.server(first).pid), what="the end of the server with the old code")


def test_code_that_changes_while_a_server_loads_it_is_loaded_again(warm: Warm, code: Code):
    """It changes itself, once: as a deployment that comes in the middle."""
    change = (
        "source = Path(__file__).read_text()\n"
        "if 'ol' + 'd' in source:\n"
        "    Path(__file__).write_text(source.replace('ol' + 'd', 'changed'))"
    )
    code.write("SAID.write_text('old')", prelude=change)
    assert warm.ended(warm.launch(pointer=code.pointer)) == DagsterRunStatus.SUCCESS
    assert code.said() == "changed"


def test_code_that_changes_whenever_it_is_loaded_is_refused_with_the_remedy(warm: Warm, code: Code):
    code.write("pass", prelude="Path(__file__).write_text(Path(__file__).read_text() + '#')")
    with pytest.raises(
        LaunchFailed, match=r"changing_location\.py has changed each of 3 times while the code was loaded"
    ):
        warm.launch(pointer=code.pointer)


def test_code_that_cannot_be_loaded_fails_the_launch_with_its_reason_until_it_is_mended(warm: Warm, code: Code):
    code.write("pass", prelude="raise KeyError('no such setting')")
    run_id = warm.create(pointer=code.pointer)
    with pytest.raises(LaunchFailed, match="KeyError: 'no such setting'"):
        warm.instance.launch_run(run_id, workspace=None)  # type: ignore[arg-type]
    assert warm.status(run_id) == DagsterRunStatus.FAILURE
    assert "no such setting" in warm.log(run_id)
    code.write("pass")
    assert warm.ended(warm.launch(pointer=code.pointer)) == DagsterRunStatus.SUCCESS


def test_code_that_starts_threads_on_import_is_refused_with_the_remedy(warm: Warm, code: Code):
    code.write("pass", prelude="import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    with pytest.raises(LaunchFailed, match=r"cannot be forked safely\. Start them when they are needed"):
        warm.launch(pointer=code.pointer)


def test_servers_beyond_the_bound_make_room(warm: Warm, tmp_path: Path):
    warm.launcher._max_servers = 1
    pids = []
    for name in ("one_location", "another_location"):
        code = Code(tmp_path / "code", name)
        code.write("pass")
        run_id = warm.launch(pointer=code.pointer)
        assert warm.ended(run_id) == DagsterRunStatus.SUCCESS
        pids.append(warm.server(run_id).pid)
    until(lambda: gone(pids[0]), what="the end of the server that was used before")
    assert not gone(pids[1])


def test_a_change_of_any_kind_is_seen(tmp_path: Path):
    installed = tmp_path / "site-packages"
    installed.mkdir()
    module = tmp_path / "module.py"
    module.write_text("one")

    def state() -> Sources:
        return Sources.of([str(tmp_path)], [str(installed)])

    def kept_times() -> None:
        before = module.stat()
        module.write_text("two")  # of the same size
        os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))

    changes = {
        "another content": lambda: module.write_text("three"),
        "another content under the old time": kept_times,
        "another file": lambda: (tmp_path / "new.py").touch(),
        "a file less": lambda: (tmp_path / "new.py").unlink(),
        "a package installed": lambda: (installed / "package").mkdir(),
    }
    assert state().changed() is None
    assert state().changed_since(module.stat().st_ctime_ns) is not None
    assert state().changed_since(time.time_ns() + 10**9) is None
    for name, change in changes.items():
        before = state()
        change()
        assert before.changed() is not None, name
    (tmp_path / "data.csv").touch()
    (tmp_path / "__pycache__").mkdir()
    assert state().changed() is None


@pytest.mark.parametrize("program", ["/venv/bin/dagster-daemon", "/lib/dagster/_daemon/__main__.py"])
def test_a_daemon_warms_up_when_it_starts(
    storage: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(NOTES, str(tmp_path))
    config = {
        **storage,
        "run_coordinator": {"module": "dagster_reportqueue.warm.coordinator", "class": "WarmRunCoordinator"},
    }
    with warm_instance(config, tmp_path, warm_at_start=["tests.dagster_reportqueue.warm_location:defs"]) as warm:
        monkeypatch.setattr("sys.argv", ["/venv/bin/dagster-webserver"])
        assert isinstance(warm.instance.run_coordinator, WarmRunCoordinator)
        assert not warm.launcher._servers
        monkeypatch.setattr("sys.argv", [program])
        WarmRunCoordinator().register_instance(warm.instance)
        (server,) = warm.launcher._servers.values()
        run_id = warm.launch()
        assert warm.ended(run_id) == DagsterRunStatus.SUCCESS
        assert warm.server(run_id) == server.address, "the first run's server is the one that was there"
        close_connections(warm.instance)


def test_other_programs_are_no_daemon():
    assert not any(is_daemon(name) for name in ("-c", "/venv/bin/dagster", "/venv/bin/dagster-webserver", "pytest"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max_runs": 0}, "max_runs of the run launcher must be from 1 to 1,000 in dagster.yaml; it is 0"),
        ({"max_servers": 0}, "max_servers"),
        ({"stop_seconds": 0}, "stop_seconds of the run launcher must be from 1 to 86,400 in dagster.yaml; it is 0"),
        ({"linger_seconds": 86_401}, "linger_seconds"),
        ({"warm_at_start": ["reports"]}, "warm_at_start names code locations as module:attribute"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(config: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        WarmRunLauncher.from_config_value(None, config)
