"""A run launcher for one machine that saves the seconds of a Python start: it forks runs from a warm server.

    run_launcher:
      module: dagster_reportqueue.warm.launcher
      class: WarmRunLauncher
      config: {max_runs: 3}

As with Dagster's default launcher, runs are isolated from each other and outlive the process that launched them. The
code location needs no change, and works with any other launcher.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Self

from dagster import DagsterInstance, DagsterRun, Field, IntSource, Noneable
from dagster._config.config_schema import UserConfigSchema
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.origin import RepositoryPythonOrigin
from dagster._serdes import ConfigurableClass, ConfigurableClassData, serialize_value

from dagster_reportqueue.code_locations import origin_of
from dagster_reportqueue.warm import messages, signs_of_life
from dagster_reportqueue.warm.address import TAG, Address
from dagster_reportqueue.warm.config import ServerConfig
from dagster_reportqueue.warm.lost_runs import report_lost_runs
from dagster_reportqueue.warm.server_process import ServerProcess
from dagster_reportqueue.warm.signs_of_life import SILENT_SECONDS

ATTEMPTS = 3
"""How many servers a launch tries: the code may change while a server loads it."""
ANSWER_SECONDS = 5.0
STALLED_SECONDS = 300.0
"""After how long without a free slot a server reports which runs have the slots; again after the same time."""
AUDIT_SECONDS = 60.0
"""How often a server asks Dagster whether runs that still have a process have ended."""
MAX_SECONDS = 86_400
logger = logging.getLogger("dagster.warm_launcher")


class LaunchFailed(Exception):
    """The run was not started and will not be started; Dagster marks it as failed."""


class WarmRunLauncher(RunLauncher[DagsterInstance], ConfigurableClass):
    """Launches runs as forks of warm servers, one for each code location; the first run of each starts its server."""

    def __init__(
        self,
        *,
        max_runs: int | None = None,
        preload: Sequence[str] = (),
        warm_at_start: Sequence[str] = (),
        stop_seconds: int = 10,
        linger_seconds: int = 30,
        max_servers: int = 4,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        """The options are described in `config_type`. Raises `ValueError` for a bound exceeded or an invalid name."""
        self._max_runs = (os.cpu_count() or 1) + 1 if max_runs is None else max_runs
        for name, value in {"max_runs": self._max_runs, "max_servers": max_servers}.items():
            if not 1 <= value <= 1000:
                raise ValueError(f"{name} of the run launcher must be from 1 to 1,000 in dagster.yaml; it is {value}.")
        for name, value in {"stop_seconds": stop_seconds, "linger_seconds": linger_seconds}.items():
            if not 1 <= value <= MAX_SECONDS:
                text = f"{name} of the run launcher must be from 1 to {MAX_SECONDS:,} in dagster.yaml; it is {value}."
                raise ValueError(text)
        self._preload = tuple(preload)
        self._warm_at_start = [origin_of(place) for place in warm_at_start]
        self._stop_seconds = stop_seconds
        self._linger_seconds = linger_seconds
        self._max_servers = max_servers
        self._inst_data = inst_data
        self._servers: OrderedDict[str, ServerProcess] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """The configuration in dagster.yaml."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """The options in dagster.yaml."""
        return {
            "max_runs": Field(
                Noneable(IntSource),
                is_required=False,
                description="Run processes at once in all servers of the instance; further runs wait in order. "
                "Default: the number of cores plus 1.",
            ),
            "preload": Field(
                [str],
                is_required=False,
                description="Further modules that a server imports before its first run: those that the reports "
                "import only when they run.",
            ),
            "warm_at_start": Field(
                [str],
                is_required=False,
                description="Code locations, as module:attribute, whose servers the daemon starts when it starts; "
                "needs the run coordinator `dagster_reportqueue.warm.coordinator.WarmRunCoordinator`.",
            ),
            "stop_seconds": Field(
                IntSource,
                is_required=False,
                description="How long a run may take to end after it is terminated or its server is stopped; then its "
                "process is killed. Default: 10.",
            ),
            "linger_seconds": Field(
                IntSource,
                is_required=False,
                description="How long a run's process may stay after its run has ended, for its threads, exit handlers "
                "and child processes; then it is killed. Default: 30.",
            ),
            "max_servers": Field(
                IntSource,
                is_required=False,
                description="Servers at once; a further one replaces the least recently used. Default: 4.",
            ),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Called by Dagster."""
        return cls(inst_data=inst_data, **config_value)

    def warm_up(self) -> None:
        """Start the servers of `warm_at_start`. They load their code locations in the background."""
        for origin in self._warm_at_start:
            self._server(origin, None)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Send the run to its code location's server, which starts it or lets it wait. Raises `LaunchFailed`."""
        run = context.dagster_run
        origin = context.job_code_origin
        if origin is None:
            raise LaunchFailed(f"Run {run.run_id} has no code origin; was it created by a test?")
        for _ in range(ATTEMPTS):
            server = self._server(origin.repository_origin, origin.job_name)
            # Set the tag before the server gets the run, so that the run can be terminated from its first moment.
            self._instance.add_run_tags(run.run_id, {TAG: server.address.tag()})
            try:
                answer = server.launch(run.run_id)
            except messages.NotDelivered:
                self._retire(server)  # the server has just ended: it did not receive the run
                continue
            except messages.NoAnswer as unknown:
                self._retire(server)
                raise LaunchFailed(f"{unknown} Its output says more.") from None
            if "failed" in answer:
                self._retire(server)
                raise LaunchFailed(f"The warm server does not take the run: {answer['failed']}")
            if "stale" not in answer:
                if answer.get("before") is not None:
                    self._instance.report_engine_event(f"The run waits: {_in_words(answer)}.", run)
                return
            logger.info("The code has changed (%s): a new server loads it.", answer["stale"])
            self._retire(server)
        raise LaunchFailed(
            f"{ATTEMPTS} warm servers ended, or the code changed under them, before one took the run; launch it again."
        )

    def terminate(self, run_id: str) -> bool:
        """Ask a run to end; a waiting run is canceled. Works in any process on its host; False if not possible."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        address = Address.parse(run.tags.get(TAG))
        if address is None:
            self._instance.report_run_canceled(run, "The run was not launched yet.")
            return True
        if not address.is_here():
            text = f"The run was launched on {address.host}, and can only be terminated from there."
            self._instance.report_engine_event(text, run)
            return False
        try:
            found = _ask(address, "terminate", run_id)["state"]
        except messages.NotDelivered as gone:
            self._instance.report_run_canceled(run, f"{gone} Its runs ended with it.")
            return True
        except messages.NoAnswer as silent:
            self._instance.report_engine_event(str(silent), run)
            return False
        if found != "running":
            ended = self._instance.get_run_by_id(run_id)
            if ended is not None and not ended.is_finished:
                self._instance.report_run_canceled(ended, "The run has no process, and will not get one.")
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: run monitoring finds runs whose death no process could report."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run has a process. Run monitoring fails a run for which the answer is `NOT_FOUND`."""
        address = Address.parse(run.tags.get(TAG))
        if address is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "No warm server was asked to start it.")
        if not address.is_here():
            # Another host is one that no longer exists, such as the container before, or one with a daemon of its own.
            if signs_of_life.seen(self._instance, address.host, run.run_id):
                return CheckRunHealthResult(WorkerStatus.RUNNING, f"It runs on {address.host}, whose servers live.")
            text = f"It was launched on {address.host}, whose servers have given no sign for {SILENT_SECONDS:g} s."
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, text)
        try:
            found = _ask(address, "state", run.run_id)
        except messages.NotDelivered as gone:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{gone} Its runs ended with it.")
        except messages.NoAnswer as silent:
            # The server may be stopped or overloaded. Neither means that the run has died.
            return CheckRunHealthResult(WorkerStatus.RUNNING, str(silent))
        if found["state"] == "unknown":
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "Its process has ended.")
        return CheckRunHealthResult(WorkerStatus.RUNNING, _in_words(found), run_worker_id=str(found.get("pid", "")))

    def waits(self, run: DagsterRun) -> bool:
        """Whether the run waits in its server for other runs to end; False if the server does not answer."""
        address = Address.parse(run.tags.get(TAG))
        if address is None or not address.is_here():
            return False
        try:
            return bool(_ask(address, "state", run.run_id)["state"] == "waiting")
        except (messages.NotDelivered, messages.NoAnswer):
            return False

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """The state of the run, for the message about a run that took too long to start."""
        return self.check_run_worker_health(run).msg

    @property
    def supports_resume_run(self) -> bool:
        """No: the queue owns retries."""
        return False

    def dispose(self) -> None:
        """Retire all servers: they take no more runs, and end after their last run."""
        with self._lock:
            servers, self._servers = list(self._servers.values()), OrderedDict()
        for server in servers:
            server.retire()

    def _server(self, origin: RepositoryPythonOrigin, job_name: str | None) -> ServerProcess:
        key = origin.get_id()
        with self._lock:
            server = self._servers.get(key)
            if server is not None and server.alive():
                self._servers.move_to_end(key)
                return server
            if server is not None:
                server.retire()
            self._servers[key] = server = self._start(origin, job_name)
            self._servers.move_to_end(key)
            while len(self._servers) > self._max_servers:
                self._servers.popitem(last=False)[1].retire()
            return server

    def _start(self, origin: RepositoryPythonOrigin, job_name: str | None) -> ServerProcess:
        ref = self._instance.get_ref()
        config = ServerConfig(
            instance_ref=serialize_value(ref),
            repository_origin=serialize_value(origin),
            job_name=job_name,
            preload=self._preload,
            max_runs=self._max_runs,
            stop_seconds=self._stop_seconds,
            linger_seconds=self._linger_seconds,
            stalled_seconds=STALLED_SECONDS,
            audit_seconds=AUDIT_SECONDS,
        )
        directory = getattr(origin.code_pointer, "working_directory", None)
        try:
            return ServerProcess(origin.executable_path, directory, config, _LostRunReporter(ref))
        except OSError as error:
            text = (
                f"No warm server could be started with {origin.executable_path} in {directory or os.getcwd()}: {error}"
            )
            raise LaunchFailed(text) from None

    def _retire(self, server: ServerProcess) -> None:
        with self._lock:
            for key in [key for key, other in self._servers.items() if other is server]:
                del self._servers[key]
        server.retire()


class _LostRunReporter:
    """Reports the runs of a server that died; with its own instance, as the launcher's may be disposed by then."""

    def __init__(self, ref: InstanceRef) -> None:
        self._ref = ref

    def __call__(self, server: str, reason: str, reported: frozenset[str]) -> None:
        logger.error(reason)
        try:
            with DagsterInstance.from_ref(self._ref) as instance:
                report_lost_runs(instance, server, reason, reported)
        except Exception:
            logger.exception("The server's death could not be reported to Dagster; run monitoring will find its runs.")


def _ask(address: Address, verb: str, run_id: str) -> dict[str, Any]:
    return messages.ask(address.path, {"verb": verb, "run_id": run_id}, seconds=ANSWER_SECONDS)


def _in_words(found: Mapping[str, Any]) -> str:
    if found.get("before") is not None:
        stalled = f". {found['stalled']}" if "stalled" in found else ""
        return f"{found['before']} runs are before it{stalled}"
    return f"it runs as process {found.get('pid')}"
