"""The Celery app of the workers that make runs: `celery -A dagster_reportqueue.celery_worker worker`.

It reads the broker, the queues and the code to load from dagster.yaml in DAGSTER_HOME. A worker loads the code location
once, in its first process. It forks a process from that one for each run, so a run need not start a new Python.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from celery import signals
from celery.utils.log import get_task_logger
from dagster import DagsterInstance, DagsterRunStatus
from dagster._cli.api import _execute_run_command_body
from dagster._core.instance.ref import InstanceRef
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster._utils.interrupts import capture_interrupts
from dagster_celery.config import TASK_EXECUTE_JOB_NAME

from dagster_reportqueue.celery_launcher import ReportCeleryRunLauncher
from dagster_reportqueue.code_version import Sources
from dagster_reportqueue.early_terminations import cancel_if_terminated
from dagster_reportqueue.pooling import close_connections
from dagster_reportqueue.preload import reseed, warm_up

RENEW_SECONDS = 20.0
"""How often a process renews the state of its task, and asks whether its run is to end."""
STOP_SECONDS = 10.0
"""How long the end of a run waits for a renewal that is under way."""
LOADS, MAX_LOADS = "REPORTQUEUE_CELERY_LOADS", 3
"""The variable that counts how often a starting worker has loaded the code, and its bound."""
REFILL_SECONDS = 0.1
"""How often a worker looks for processes that have ended, to replace them."""
logger = get_task_logger(__name__)


class NoCeleryLauncher(Exception):
    """The worker does not know its broker; the message says what to do."""


@dataclass(frozen=True)
class _Loaded:
    """What a worker has loaded before it forks."""

    instance: DagsterInstance
    sources: Sources


_loaded: _Loaded | None = None


def _instance_ref() -> InstanceRef:
    home = os.environ.get("DAGSTER_HOME")
    if not home or not os.path.isdir(home):
        raise NoCeleryLauncher("DAGSTER_HOME must name the folder with dagster.yaml.")
    return InstanceRef.from_dir(home)


def _launcher() -> ReportCeleryRunLauncher:
    found = _instance_ref().run_launcher
    if not isinstance(found, ReportCeleryRunLauncher):
        raise NoCeleryLauncher(
            "run_launcher in the dagster.yaml of DAGSTER_HOME must be the class ReportCeleryRunLauncher of the module "
            f"dagster_reportqueue.celery_launcher; it is {type(found).__name__}."
        )
    return found


launcher = _launcher()
app = launcher.celery


def load(sender: Any, **_: Any) -> None:
    """Check the worker's options and load the code, before Celery forks. Ends the worker with a reason if it cannot."""
    global _loaded
    pool = sender.pool_cls if isinstance(sender.pool_cls, str) else sender.pool_cls.__module__
    if "prefork" not in pool:
        _refuse(f"A run needs a process of its own: start the worker with --pool prefork, not {pool}.")
    if sender.max_tasks_per_child != 1:
        _refuse("A run needs a new process: start the worker without --max-tasks-per-child, or with 1.")
    queues = app.amqp.queues
    queues.select([launcher.queue_named(name) for name in queues.consume_from])
    began = time.time_ns()
    instance = DagsterInstance.from_ref(_instance_ref())
    try:
        for origin in launcher.warm_at_start:
            warm_up(instance, origin, None, launcher.preload)
    except Exception as error:
        _refuse(f"The code was not loaded: {error}", error)
    sources = Sources.of_process()
    if (changed := sources.changed_since(began)) is not None:
        _load_again(changed)
    _loaded = _Loaded(instance, sources)


def after_fork(**_: Any) -> None:
    """Prepare a process for its run."""
    reseed()


def keep_full(sender: Any, **_: Any) -> None:
    """Replace processes soon after they have ended. Celery often notices them only five seconds later."""
    if sender.hub is not None:  # a broker without an event loop has a thread for this
        sender.hub.call_repeatedly(REFILL_SECONDS, sender.pool.maintain_pool)


def execute_run(task: Any, execute_job_args_packed: Any) -> None:
    """Execute a run in this process, with Dagster's code behind `dagster api execute_run`.

    If the code on the disk is no longer the loaded code, the run goes back to its queue, and the worker ends.
    """
    run_id = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs).run_id
    if _loaded is None:
        raise RuntimeError("The worker has loaded no code: was it started as the module says?")
    changed = _loaded.sources.changed()
    if changed is not None:
        logger.warning("The code has changed (%s): run %s goes back, and this worker ends.", changed, run_id)
        os.kill(os.getppid(), signal.SIGTERM)  # first, so that the worker does not take the run again
        raise task.retry(countdown=0)
    instance = _loaded.instance
    with _signals_of_a_run(), instance:
        with _attended(task, instance, run_id):
            if not cancel_if_terminated(instance, run_id):
                _execute_run_command_body(run_id, instance, lambda event: None, set_exit_code_on_failure=False)
                cancel_if_terminated(instance, run_id)
        close_connections(instance)


@contextmanager
def _signals_of_a_run() -> Iterator[None]:
    """SIGTERM and SIGINT interrupt the run here, where Dagster expects it, and not Celery's code around it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with capture_interrupts():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _attended(task: Any, instance: DagsterInstance, run_id: str) -> Iterator[None]:
    """In this context, a thread renews the state of the task, and interrupts a run that is to end.

    When the process dies, the renewals end. A termination reaches the run here if its worker did not receive it, for
    instance because the worker is being stopped.
    """
    done = threading.Event()
    state = {"hostname": task.request.hostname, "pid": os.getpid()}
    backend, task_id, main = app.backend, task.request.id, threading.main_thread().ident

    def attend() -> None:
        count = 0
        while not done.wait(RENEW_SECONDS):
            count += 1
            try:
                backend.store_result(task_id, {**state, "renewals": count}, "STARTED")
                run = instance.get_run_by_id(run_id)
                if run is None or run.is_finished or run.status == DagsterRunStatus.CANCELING:
                    signal.pthread_kill(main or 0, signal.SIGTERM)
            except Exception as error:
                logger.warning("Run %s could not be attended: %s", run_id, error)

    thread = threading.Thread(target=attend, name="attend-celery-run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(STOP_SECONDS)


def _load_again(changed: str) -> NoReturn:
    """Start the worker anew: the code changed while it was loaded, so this process may have a mixture."""
    loads = int(os.environ.get(LOADS, "1"))
    if loads == MAX_LOADS:
        _refuse(f"{changed} has changed each of {loads} times while the code was loaded.")
    os.environ[LOADS] = str(loads + 1)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _refuse(reason: str, cause: Exception | None = None) -> NoReturn:
    # Celery logs an ordinary exception of this function and goes on.
    raise SystemExit(f"error: {reason}") from cause


signals.worker_init.connect(load)
signals.worker_process_init.connect(after_fork)
signals.worker_ready.connect(keep_full)
# The queue owns retries, so the broker must not deliver a task again that a worker has begun.
app.task(bind=True, name=TASK_EXECUTE_JOB_NAME, track_started=True, acks_late=False, max_retries=None)(execute_run)
