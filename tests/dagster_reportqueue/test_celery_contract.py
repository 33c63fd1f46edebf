"""What the Celery launcher and its workers lean on in dagster-celery, Celery and Dagster without a promise."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from celery.app import defaults
from celery.app.control import Control
from celery.app.task import Task
from celery.app.trace import build_tracer
from celery.backends.asynchronous import AsyncBackendMixin
from celery.backends.base import Backend, SyncBackendMixin
from celery.concurrency import prefork
from celery.utils.dispatch.signal import Signal
from celery.worker.request import Request
from celery.worker.worker import WorkController
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.tags import PRIORITY_TAG
from dagster._grpc.types import ExecuteRunArgs
from dagster_celery import config, tags, tasks
from dagster_celery.launcher import CeleryRunLauncher
from kombu.transport.redis import Channel

SIGNATURES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "how Dagster's launcher is made": (
        CeleryRunLauncher.__init__,
        ["self", "default_queue", "broker", "backend", "include", "config_source", "inst_data"],
    ),
    "the arguments of a run's task": (
        ExecuteRunArgs.__new__,
        ["cls", "job_origin", "run_id", "instance_ref", "set_exit_code_on_failure"],
    ),
    "how the state of a task is stored": (
        Backend.store_result,
        ["self", "task_id", "result", "state", "traceback", "request", "kwargs"],
    ),
    "how the state of a task is read": (Backend.get_task_meta, ["self", "task_id", "cache"]),
}


def changed(what: str) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("dagster", "dagster-celery", "celery", "kombu"))
    return f"One of {versions} has changed {what}: see dagster_reportqueue/celery_launcher.py and celery_worker.py."


@pytest.mark.parametrize("what", SIGNATURES)
def test_it_is_called_as_before(what: str):
    function, expected = SIGNATURES[what]
    assert list(inspect.signature(function).parameters)[: len(expected)] == expected, changed(what)


def test_dagsters_launcher_has_the_same_options():
    options = {"broker", "backend", "include", "default_queue", "config_source"}
    assert set(CeleryRunLauncher.config_type()) == options, changed("the options of Dagster's launcher")
    assert CeleryRunLauncher.config_type()["backend"].default_value == "rpc://", changed("the default backend")


def test_a_task_is_taken_by_dagsters_own_workers_too():
    """They do not check the code, but a run is not lost if one of them is left."""
    source = inspect.getsource(tasks.create_execute_job_task)
    assert "name=TASK_EXECUTE_JOB_NAME" in source, changed("the name of a run's task")
    assert "execute_job_args_packed" in source, changed("the argument of a run's task")


def test_the_tags_of_a_run_have_the_same_names():
    assert (tags.DAGSTER_CELERY_QUEUE_TAG, tags.DAGSTER_CELERY_RUN_PRIORITY_TAG, PRIORITY_TAG) == (
        "dagster-celery/queue",
        "dagster-celery/run_priority",
        "dagster/priority",
    ), changed("the names of tags")


def test_a_worker_takes_one_task_for_each_process():
    assert config.DEFAULT_CONFIG["worker_prefetch_multiplier"] == 1, changed("how many tasks a worker takes")
    assert "disable_prefetch" in defaults.NAMESPACES["worker"], changed("worker_disable_prefetch")


def test_the_code_is_loaded_before_the_first_fork():
    source = inspect.getsource(WorkController.setup_instance)
    queues, loads, forks = map(source.index, ("setup_queues(", "worker_init.send(", "blueprint.apply("))
    assert queues < loads < forks, changed("when worker_init is sent")
    assert {"pool_cls", "max_tasks_per_child"} <= set(inspect.signature(WorkController.setup_defaults).parameters)


def test_a_worker_that_must_not_start_can_end_in_a_signals_receiver():
    assert "except Exception" in inspect.getsource(Signal.send), changed("what the receiver of a signal may raise")


def test_a_run_dies_with_its_worker():
    source = inspect.getsource(prefork.process_initializer)
    assert "set_pdeathsig('SIGKILL')" in source, changed("what becomes of the processes of a killed worker")


def test_a_task_is_acknowledged_before_it_begins():
    """So the broker does not deliver it again, whatever becomes of it: the queue owns retries."""
    source = inspect.getsource(Request.on_accepted)
    assert "if not self.task.acks_late:\n            self.acknowledge()" in source, changed("the acknowledgement")


def test_a_state_names_the_worker():
    source = inspect.getsource(build_tracer)
    assert "{'pid': pid, 'hostname': hostname}, STARTED" in source, changed("the state of a task that has begun")


def test_a_task_that_goes_back_keeps_its_queue_and_its_priority():
    source = inspect.getsource(Task.signature_from_request)
    assert "options['queue'] = routing_key" in source, changed("the queue of a retry")
    assert "options['priority'] = priority" in source, changed("the priority of a retry")


def test_nobody_listens_for_the_result_of_a_task():
    """Otherwise Dagster's daemon would keep a subscription for each run."""
    for mixin in (AsyncBackendMixin, SyncBackendMixin):
        assert list(inspect.signature(mixin.remove_pending_result).parameters) == ["self", "result"], changed("that")


def test_redis_serves_the_lowest_number_first():
    source = inspect.getsource(Channel._brpop_start)
    assert "for pri in self.priority_steps" in source, changed("the order of priorities in Redis")


def test_a_running_task_can_be_revoked():
    assert list(inspect.signature(Control.revoke).parameters)[:4] == ["self", "task_id", "destination", "terminate"]


def test_an_instance_names_its_launcher_without_its_storage():
    """A worker reads its broker from dagster.yaml before it connects to Dagster's database."""
    assert isinstance(InstanceRef.run_launcher, property), changed("InstanceRef.run_launcher")
