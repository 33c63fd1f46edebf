"""Imports and computes once what every run needs, so that the forked processes have it already."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dagster import DagsterInstance, in_process_executor, job, op, reconstructable
from dagster._cli.api import _execute_run_command_body
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._utils.hosted_user_process import recon_job_from_origin, recon_repository_from_origin

from dagster_reportqueue.pooling import close_connections, pool_connections

UNKNOWN_RUN = "00000000-0000-0000-0000-000000000000"
THROWN_AWAY = "telemetry: {enabled: false}"
"""The dagster.yaml of the temporary instance. It does not read the real one, in which telemetry may be turned off."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config: nobody has launched this run, so its events would only confuse in the output of Dagster's daemon."""


class WarmUpFailed(Exception):
    """The code location cannot be loaded, or not be forked safely; the message says why and what to do."""


@op
def nothing() -> None:
    """An op that does nothing."""


@job(executor_def=in_process_executor)
def nothing_job() -> None:
    """Executed once on a temporary instance, because Dagster imports many modules only when it executes a run."""
    nothing()


def warm_up(
    instance: DagsterInstance, repository: RepositoryPythonOrigin, job_name: str | None, preload: Sequence[str]
) -> None:
    """Load the code location with its jobs, and the modules in `preload`; leave no open connection and no thread.

    Raises `WarmUpFailed`, or the error of the code location.
    """
    definition = recon_repository_from_origin(repository).get_definition()
    for name in preload:
        importlib.import_module(name)
    for name in sorted(definition.job_names, key=lambda name: name == job_name):
        # Dagster keeps the last job that was loaded, so load the job that is launched first last.
        recon_job_from_origin(JobPythonOrigin(name, repository)).get_definition()
    _run_nothing()
    _use_storage_once(instance)
    _refuse_threads(repository)
    gc.collect()
    gc.freeze()  # memory that is shared with the forked processes stays shared


def reseed() -> None:
    """Call this in each forked process: without it, numpy would draw the same numbers in each of them."""
    numpy_random = sys.modules.get("numpy.random")  # Python reseeds its own generator after a fork
    if numpy_random is not None:
        numpy_random.seed()


def _run_nothing() -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "dagster.yaml").write_text(THROWN_AWAY)
        with DagsterInstance.local_temp(folder) as thrown_away:
            recon_job = reconstructable(nothing_job)
            run = thrown_away.create_run_for_job(
                nothing_job, run_config=QUIET, job_code_origin=recon_job.get_python_origin()
            )
            _execute_run_command_body(run.run_id, thrown_away, lambda event: None, set_exit_code_on_failure=False)


def _use_storage_once(instance: DagsterInstance) -> None:
    """The first operations import the driver and initialize the dialect."""
    pool_connections(instance)
    instance.get_run_by_id(UNKNOWN_RUN)
    instance.all_logs(UNKNOWN_RUN)
    close_connections(instance)


def _refuse_threads(repository: RepositoryPythonOrigin) -> None:
    # A fork copies only the calling thread: locks that other threads hold would stay locked for ever.
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        raise WarmUpFailed(
            f"Loading {repository.code_pointer.describe()} started threads ({', '.join(sorted(others))}), and a "
            "process with threads cannot be forked safely. Start them when they are needed first, not on import; or "
            "use Dagster's default run launcher."
        )
