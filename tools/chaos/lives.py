"""What the warm parent's forked children do: a daemon's life, a run's worker, a person who re-executes a run.

Everything that acts is Dagster's own code: the sensor daemon's iteration, and the command behind
`dagster api execute_run`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import DagsterInstance, DagsterRun
from dagster._cli.api import execute_run_command
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value

from tools.chaos import launcher, points
from tools.chaos.ledger import Ledger

logger = logging.getLogger("chaos.daemon")


def worker(request: Mapping[str, Any]) -> None:
    """The run's worker, as the code server starts it."""
    with DagsterInstance.get() as instance:
        run = instance.get_run_by_id(request["run"])
        assert run is not None
        assert run.job_code_origin is not None
        arguments = ExecuteRunArgs(run.job_code_origin, run.run_id, instance.get_ref())
    execute_run_command.callback(serialize_value(arguments), None)


def pod(request: Mapping[str, Any]) -> None:
    """A pod of a Kubernetes Job, on a host with these variables: the command of its container."""
    os.environ.update(request["environment"])
    *_, command, arguments = request["arguments"]
    if command != "execute_run":
        raise ValueError(f"a pod with another command: {request['arguments'][:3]}")
    execute_run_command.callback(arguments, None)


def daemon(request: Mapping[str, Any]) -> None:
    """A daemon of one consumer; it goes on until it is killed. `crash` names a point, `how` kill or raise."""
    consumer, crash = request["consumer"], request.get("crash")
    flags: dict[str, dict[str, Any]] | None = None
    if crash is not None:
        raises = request.get("how") == "raise"
        flags = {consumer: {crash: Exception("chaos: the tick fails") if raises else signal.SIGKILL}}
    launcher.faults[:] = request.get("launches", [])
    failures = 0
    with DagsterInstance.get() as instance, _workspace(instance, consumer) as workspace:
        while True:
            try:
                found = list(execute_sensor_iteration(workspace, logger, None, None, debug_crash_flags=flags))
            except Exception:
                logger.exception("The iteration failed.")  # as the daemon's own loop: the database is away, say
                time.sleep(0.5)
                continue
            if request.get("how") == "raise" and flags and any("the tick fails" in str(one) for one in found if one):
                failures += 1
                if failures == 2:
                    Ledger(os.environ["CHAOS_LEDGER"]).write("tick_failed_twice", consumer=consumer, pid=os.getpid())
                    flags = None
            time.sleep(0.1)


def person(request: Mapping[str, Any]) -> None:
    """Somebody re-executes a run in Dagster's UI, `times` times."""
    with DagsterInstance.get() as instance:
        parent = instance.get_run_by_id(request["parent"])
        until = time.monotonic() + 10
        while parent is not None and not parent.is_finished and time.monotonic() < until:
            time.sleep(0.2)  # the UI offers it for finished runs only
            parent = instance.get_run_by_id(request["parent"])
        assert parent is not None
        assert parent.is_finished
        assert parent.remote_job_origin is not None
        repository = parent.remote_job_origin.repository_origin
        _reexecute(instance, parent, repository, request.get("times", 1))


def terminator(request: Mapping[str, Any]) -> None:
    """Somebody terminates a run in Dagster's UI."""
    with DagsterInstance.get() as instance:
        instance.run_coordinator.cancel_run(request["run"])


def _reexecute(instance: DagsterInstance, parent: DagsterRun, repository: Any, times: int) -> None:
    name = repository.code_location_origin.location_name
    with _workspace(instance, name) as workspace:
        context = workspace.create_request_context()
        location = context.get_code_location(name)
        job = location.get_job(JobSubsetSelector(name, repository.repository_name, parent.job_name, op_selection=None))
        for _ in range(times):
            run = instance.create_reexecuted_run(
                request_context=context,
                parent_run=parent,
                code_location=location,
                remote_job=job,
                strategy=ReexecutionStrategy.ALL_STEPS,
                use_parent_run_tags=True,
            )
            instance.submit_run(run.run_id, workspace.create_request_context())


LIVES = {"run": worker, "pod": pod, "daemon": daemon, "person": person, "terminator": terminator}


@contextmanager
def _workspace(instance: DagsterInstance, consumer: str) -> Iterator[WorkspaceProcessContext]:
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(_origin(consumer))) as workspace:
        yield workspace


def _origin(consumer: str) -> InProcessCodeLocationOrigin:
    target = LoadableTargetOrigin(module_name="tools.chaos.location", attribute=consumer)
    return InProcessCodeLocationOrigin(target, location_name=consumer)


def warm_up() -> None:
    """Run one job without the queue, so that a child finds all imported and computed that it is going to need.

    Dagster closes its connections to PostgreSQL after each use: none is left open for a child to inherit.
    """
    from tools.chaos import location

    configured = {"ops": {"report_data": {"config": {"report_id": 1, "modifier_id": 1}}}}
    with DagsterInstance.get() as instance:
        instance.run_launcher.supports_check_run_worker_health  # noqa: B018 - imports the launcher's module
        for consumer in (*points.CONSUMERS, points.BATCH_CONSUMER):
            _origin(consumer).create_location(instance)
        location.alpha.resolve_job_def("chaos_report_job").execute_in_process(run_config=configured, instance=instance)
