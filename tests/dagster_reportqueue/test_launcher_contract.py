"""What the warm launcher leans on in Dagster without a promise. A failure here says what an upgrade has changed."""

from __future__ import annotations

import atexit
import concurrent.futures.thread
import inspect
import multiprocessing.process
import multiprocessing.util
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster
import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._cli import api
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.events import EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.execution.api import execute_run_iterator
from dagster._core.instance import types as instance_types
from dagster._core.launcher import base
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.run_coordinator.base import RunCoordinator
from dagster._core.run_coordinator.sync_in_memory_run_coordinator import SyncInMemoryRunCoordinator
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._daemon.monitoring import run_monitoring
from dagster._utils.hosted_user_process import recon_job_from_origin, recon_repository_from_origin
from dagster._utils.interrupts import capture_interrupts
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage

from dagster_reportqueue.warm import SUPPORTED
from dagster_reportqueue.warm.launcher import WarmRunLauncher
from dagster_reportqueue.warm.worker import ENDS
from tests.dagster_reportqueue.daemon import ROOT

SIGNATURES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "the body of `dagster api execute_run`": (
        api._execute_run_command_body,
        ["run_id", "instance", "write_stream_fn", "set_exit_code_on_failure"],
    ),
    "RunLauncher.launch_run": (RunLauncher.launch_run, ["self", "context"]),
    "RunLauncher.terminate": (RunLauncher.terminate, ["self", "run_id"]),
    "RunLauncher.dispose": (RunLauncher.dispose, ["self"]),
    "RunLauncher.check_run_worker_health": (RunLauncher.check_run_worker_health, ["self", "run"]),
    "RunLauncher.get_run_worker_debug_info": (
        RunLauncher.get_run_worker_debug_info,
        ["self", "run", "include_container_logs"],
    ),
    "RunCoordinator.register_instance": (RunCoordinator.register_instance, ["self", "instance"]),
    "DagsterInstance.optimize_for_webserver": (
        DagsterInstance.optimize_for_webserver,
        ["self", "statement_timeout", "pool_recycle", "max_overflow"],
    ),
    "DagsterInstance.add_run_tags": (DagsterInstance.add_run_tags, ["self", "run_id", "new_tags"]),
    "DagsterInstance.report_run_failed": (
        DagsterInstance.report_run_failed,
        ["self", "dagster_run", "message", "job_failure_data"],
    ),
    "DagsterInstance.report_run_canceling": (DagsterInstance.report_run_canceling, ["self", "run", "message"]),
    "DagsterInstance.report_run_canceled": (DagsterInstance.report_run_canceled, ["self", "dagster_run", "message"]),
    "DagsterInstance.handle_new_event": (DagsterInstance.handle_new_event, ["self", "event", "batch_metadata"]),
    "recon_job_from_origin": (recon_job_from_origin, ["origin"]),
    "recon_repository_from_origin": (recon_repository_from_origin, ["origin"]),
    "capture_interrupts": (capture_interrupts, []),
}
RECORDS: dict[type, tuple[str, ...]] = {
    LaunchRunContext: ("dagster_run", "workspace"),
    CheckRunHealthResult: ("status", "msg", "transient", "run_worker_id"),
    JobPythonOrigin: ("job_name", "repository_origin"),
    RepositoryPythonOrigin: (
        "executable_path",
        "code_pointer",
        "container_image",
        "entry_point",
        "container_context",
    ),
}


def changed(what: str) -> str:
    return f"Dagster {dagster.__version__} has changed {what}: see what dagster_reportqueue/warm makes of it."


@pytest.mark.parametrize("what", SIGNATURES)
def test_it_is_called_as_before(what: str):
    function, expected = SIGNATURES[what]
    assert list(inspect.signature(function).parameters) == expected, changed(what)


@pytest.mark.parametrize("record", RECORDS)
def test_it_carries_the_same_fields(record: Any):
    assert record._fields == RECORDS[record], changed(record.__name__)


def test_a_launcher_has_the_same_methods():
    """A new one may be something that the launcher has to answer, as `can_terminate` once was."""
    methods = {name for name in vars(RunLauncher) if not name.startswith("_")}
    assert methods == {
        "check_run_worker_health",
        "dispose",
        "get_run_worker_debug_info",
        "join",
        "launch_run",
        "resume_run",
        "supports_check_run_worker_health",
        "supports_resume_run",
        "terminate",
    }, changed("what a run launcher is")
    assert not hasattr(WarmRunLauncher, "can_terminate")
    assert base.LaunchRunContext.job_code_origin.fget is not None, changed("LaunchRunContext.job_code_origin")


def test_a_coordinator_that_launches_at_once_does_nothing_else():
    source = inspect.getsource(SyncInMemoryRunCoordinator.submit_run)
    assert "DagsterRunStatus.NOT_STARTED" in source, changed("the coordinator, which must not launch a run twice")


def test_an_ended_run_is_not_executed_again_by_whoever_starts_it_late():
    source = inspect.getsource(execute_run_iterator)
    for said in ("Not starting execution since the run was canceled", "Ignoring a run worker that started after"):
        assert said in source, changed("execute_run_iterator, which refuses runs that have ended")


def test_run_monitoring_fails_runs_whose_process_is_not_known_to_run():
    assert [status.name for status in WorkerStatus] == ["RUNNING", "NOT_FOUND", "FAILED", "SUCCESS", "UNKNOWN"]
    source = inspect.getsource(run_monitoring.monitor_started_run)
    assert "not in [WorkerStatus.RUNNING, WorkerStatus.SUCCESS]" in source, changed(
        "what run monitoring makes of a health"
    )


def test_an_interrupted_run_is_still_interrupted_by_the_same_signals():
    source = inspect.getsource(inspect.getmodule(capture_interrupts))  # type: ignore[arg-type]
    assert "signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))" in source, changed("its signal handlers")


@pytest.mark.parametrize("storage", [PostgresRunStorage, PostgresEventLogStorage, PostgresScheduleStorage])
def test_a_storage_has_its_engine_where_it_was(storage: type):
    source = inspect.getsource(storage)
    assert re.search(r"self\._engine = create_(pg_)?engine\(", source), changed(f"{storage.__name__}._engine")
    assert "optimize_for_webserver" in vars(storage), changed(f"{storage.__name__}.optimize_for_webserver")


def test_a_code_pointer_says_where_its_code_is_loaded():
    assert ModuleCodePointer("module", "defs", "/folder").working_directory == "/folder", changed("ModuleCodePointer")


def test_a_run_that_is_being_launched_has_the_same_statuses():
    """`report_lost_runs` looks for those that a process may have; a new one would be forgotten there."""
    assert {status.name for status in DagsterRunStatus} | {"SUSPENDED"} == {  # since 1.13; it has no process
        "QUEUED",
        "NOT_STARTED",
        "MANAGED",
        "STARTING",
        "STARTED",
        "SUSPENDED",
        "SUCCESS",
        "FAILURE",
        "CANCELING",
        "CANCELED",
    }, changed("the statuses of a run")


def test_python_lets_a_forked_process_forget_what_is_to_be_done_at_its_parents_exit():
    assert callable(atexit._clear)
    assert callable(atexit._run_exitfuncs)


def test_python_ends_pools_threads_and_child_processes_where_a_forked_process_calls_it():
    """A run calls what the interpreter calls at its end, and keeps the server's objects out of it."""
    text = f"Python {sys.version.split()[0]} ends otherwise: see dagster_reportqueue/warm/worker.py."
    shutdown = inspect.getsource(threading._shutdown)  # type: ignore[attr-defined]
    assert "reversed(_threading_atexits)" in shutdown, text
    assert threading._threading_atexits, text  # type: ignore[attr-defined]
    assert "threading._register_atexit(_python_exit)" in inspect.getsource(concurrent.futures.thread), text
    children = inspect.getsource(multiprocessing.process)
    assert "_children = set()" in children, text
    assert "for p in list(_children)" in children, text
    assert "active_children()" in inspect.getsource(multiprocessing.util._exit_function), text  # type: ignore[attr-defined]
    for name in ("_registry", "_exitfunc", "_registered_with_atexit"):
        assert hasattr(weakref.finalize, name), text
    assert "if i.atexit" in inspect.getsource(weakref.finalize._select_for_exit), text  # type: ignore[attr-defined]


def test_a_runs_end_is_handed_to_the_function_that_hears_of_its_events():
    """From then on its process has `linger_seconds`."""
    source = inspect.getsource(api._execute_run_command_body)
    assert "write_stream_fn(event)" in source, changed("which events a run's process hears of")
    types = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}
    assert types == ENDS
    ended = {status for kind, status in EVENT_TYPE_TO_PIPELINE_RUN_STATUS.items() if kind in ENDS}
    assert ended == set(FINISHED_STATUSES), changed("how a run ends")


def test_what_a_run_says_of_itself_passes_through_its_instance():
    """There a forked copy of the run is stopped."""
    source = inspect.getsource(instance_types)
    assert "handle_new_event(" in source, changed("how events are stored")


def test_no_code_location_knows_the_warm_launcher():
    """It must work with any launcher; so must yours."""
    warm = Path(inspect.getfile(WarmRunLauncher)).parent
    places = [*warm.parent.rglob("*.py"), *(warm.parent.parent / "orchestrator").rglob("*.py")]
    others = [path for path in places if warm not in path.parents]
    assert len(others) > 10
    for path in others:
        assert "dagster_reportqueue.warm" not in path.read_text(), path


@pytest.mark.parametrize("module", ["dagster_reportqueue.warm.launcher", "dagster_reportqueue.warm.coordinator"])
def test_dagsters_daemon_loads_nothing_of_reports_with_the_launcher(module: str):
    code = (
        f"import sys, {module}\n"
        "ours = {name for name in sys.modules if name.startswith('dagster_reportqueue.')}\n"
        "known = {'dagster_reportqueue.pooling', 'dagster_reportqueue.code_locations'}\n"
        "print([name for name in ours - known if 'warm' not in name.split('.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_version_of_dagster_is_refused_with_the_remedy(tmp_path: Path):
    """Everything but the launcher works there."""
    info = tmp_path / "dagster-1.99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dagster\nVersion: 1.99.0\n")
    variables = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}

    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    refused = run("import dagster_reportqueue.warm.launcher")
    said = refused.stderr.splitlines()[-1]
    assert "UnsupportedDagster: The warm launcher works with Dagster 1.12 and 1.13; 1.99.0 is installed" in said
    assert "take run_launcher and run_coordinator out of dagster.yaml" in said
    works = run("from dagster_reportqueue import build_definitions; print(build_definitions(print))")
    assert works.returncode == 0, works.stderr


def test_the_docs_name_the_supported_versions_of_dagster():
    page = (Path(ROOT) / "docs" / "launcher.md").read_text()
    assert f"It works with Dagster {' and '.join(SUPPORTED)}." in page
