"""Runs of `warm_location` on an instance with the warm launcher.

As a program, `python -m tests.dagster_reportqueue.warm RUN...` launches these runs of the instance in DAGSTER_HOME, and
waits until it is killed or its input ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, instance_for_test
from dagster._core.code_pointer import CodePointer, ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.utils import make_new_run_id

from dagster_reportqueue.warm.address import TAG, Address
from dagster_reportqueue.warm.launcher import WarmRunLauncher
from tests.dagster_reportqueue.daemon import ROOT
from tests.dagster_reportqueue.waiting import until
from tests.dagster_reportqueue.warm_location import NOTES, acting_job

HERE = ModuleCodePointer("tests.dagster_reportqueue.warm_location", "defs", ROOT)
START_SECONDS = 60


class Warm:
    """An instance, and the folder in which its runs leave their notes."""

    def __init__(self, instance: DagsterInstance, folder: Path) -> None:
        self.instance = instance
        self.folder = folder

    @property
    def launcher(self) -> WarmRunLauncher:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        return launcher

    def environment(self) -> dict[str, str]:
        """Of a process that has this instance."""
        return {**os.environ, "DAGSTER_HOME": str(self.folder)}

    def create(self, do: str = "nothing", pointer: CodePointer = HERE) -> str:
        """A run that was not launched yet."""
        origin = JobPythonOrigin("acting_job", RepositoryPythonOrigin(sys.executable, pointer))
        run = self.instance.create_run_for_job(
            acting_job, run_id=make_new_run_id(), tags={"do": do}, job_code_origin=origin
        )
        return run.run_id

    def launch(self, do: str = "nothing", pointer: CodePointer = HERE) -> str:
        run_id = self.create(do, pointer)
        self.instance.launch_run(run_id, workspace=None)  # type: ignore[arg-type]
        return run_id

    def run(self, run_id: str) -> DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def status(self, run_id: str) -> DagsterRunStatus:
        return self.run(run_id).status

    def ended(self, run_id: str) -> DagsterRunStatus:
        """Its status once it has ended."""
        until(lambda: self.run(run_id).is_finished, START_SECONDS, what=f"the end of run {run_id}")
        return self.status(run_id)

    def notes(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """What runs, or that one, have noted so far, in order."""
        try:
            lines = (self.folder / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [note for line in lines if run_id in (None, (note := json.loads(line))["run_id"])]

    def started(self, run_id: str) -> dict[str, Any]:
        """What it has noted, once its op runs."""
        until(lambda: self.notes(run_id), START_SECONDS, what=f"the start of run {run_id}")
        return self.notes(run_id)[0]

    def server(self, run_id: str) -> Address:
        address = Address.parse(self.run(run_id).tags.get(TAG))
        assert address is not None
        return address

    def servers(self) -> set[int]:
        """The process ids of those that take runs."""
        return {host.address.pid for host in self.launcher._servers.values()}

    def log(self, run_id: str) -> str:
        """Every message of the run."""
        return "\n".join(entry.message for entry in self.instance.all_logs(run_id))


@contextmanager
def warm_instance(storage: Mapping[str, Any], folder: Path, **config: Any) -> Iterator[Warm]:
    """An instance with the warm launcher, configured so; when it is left, no process of it is there any more."""
    launcher = {
        "module": "dagster_reportqueue.warm.launcher",
        "class": "WarmRunLauncher",
        "config": {"stop_seconds": 3} | config,
    }
    with instance_for_test({**storage, "run_launcher": launcher}, temp_dir=str(folder)) as instance:
        warm = Warm(instance, folder)
        try:
            yield warm
        finally:
            pids = warm.servers()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            for pid in pids:
                until(lambda pid=pid: gone(pid), 20, what=f"the end of server {pid}")


@contextmanager
def two_at_once(database: str, folder: Path, **config: Any) -> Iterator[Warm]:
    """For all tests of a module: one server, unless a test ends it; two runs at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NOTES, str(folder))
        storage = {"storage": {"postgres": {"postgres_url": database}}}
        with warm_instance(storage, folder, max_runs=2, **config) as warm:
            yield warm
            warm.instance.wipe()


def end_runs(warm: Warm) -> None:
    """Terminate the runs that a test has left."""
    for run in warm.instance.get_runs():
        if not run.is_finished:
            warm.launcher.terminate(run.run_id)
            warm.ended(run.run_id)


def gone(pid: int) -> bool:
    """Whether there is no such process, or only what is left for its parent to be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter: it ended between the opening and the reading
        return True


if __name__ == "__main__":
    with DagsterInstance.get() as stored:
        for one in sys.argv[1:]:
            stored.launch_run(one, workspace=None)  # type: ignore[arg-type]
        sys.stdin.read()
