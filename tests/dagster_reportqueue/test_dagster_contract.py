"""What the library leans on in Dagster without a promise, the warm launcher apart (test_launcher_contract.py)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import dagster
import pytest
from dagster import DagsterInstance, EventLogEntry, SensorDefinition, SensorEvaluationContext
from dagster._core.events import EngineEventData
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._core.storage.runs import SqlRunStorage
from dagster._utils.error import serializable_error_info_from_exc_info

SIGNATURES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "how a storage opens the log of a run": (SqlEventLogStorage.run_connection, ["self", "run_id"]),
    "how a storage inserts several events": (SqlEventLogStorage.prepare_insert_event_batch, ["self", "events"]),
    "DagsterInstance.report_engine_event": (
        DagsterInstance.report_engine_event,
        ["self", "message", "dagster_run", "engine_event_data", "cls", "step_key", "job_name", "run_id"],
    ),
    "an event of the engine": (EngineEventData, ["metadata", "error", "marker_start", "marker_end"]),
    "an error that is stored": (serializable_error_info_from_exc_info, ["exc_info", "hoist_user_code_error"]),
    "SensorDefinition.evaluate_tick": (SensorDefinition.evaluate_tick, ["self", "context"]),
    "the id of a deployment's storage": (SqlRunStorage.get_run_storage_id, ["self"]),
    "how a storage keeps a value": (SqlRunStorage.set_cursor_values, ["self", "pairs"]),
    "how a storage gives it back": (SqlRunStorage.get_cursor_values, ["self", "keys"]),
    "how output goes into a file": (redirect_to_file, ["stream", "filepath"]),
    "LocalComputeLogManager.capture_logs": (LocalComputeLogManager.capture_logs, ["self", "log_key"]),
    "LocalComputeLogManager.complete_artifact_path": (
        LocalComputeLogManager.complete_artifact_path,
        ["self", "log_key"],
    ),
}


def changed(what: str) -> str:
    return f"Dagster {dagster.__version__} has changed {what}."


@pytest.mark.parametrize("what", SIGNATURES)
def test_it_is_called_as_before(what: str):
    function, expected = SIGNATURES[what]
    assert list(inspect.signature(function).parameters) == expected, changed(what)


def test_an_entry_of_the_log_has_the_fields_that_are_given_to_it():
    names = ("error_info", "level", "user_message", "run_id", "timestamp", "step_key", "job_name", "dagster_event")
    assert set(names) <= set(EventLogEntry._fields), changed("EventLogEntry")


def test_an_event_of_the_engine_is_one_insert_and_nothing_more():
    """What `execution.events` does for many at once."""
    source = inspect.getsource(SqlEventLogStorage.prepare_insert_event_batch)
    assert "SqlEventLogStorageTable.insert().values(" in source, changed("how events are inserted")


def test_a_tick_makes_its_instance_unless_it_has_one():
    source = inspect.getsource(SensorEvaluationContext.instance.fget)  # type: ignore[attr-defined]
    assert "if not self._instance:" in source, changed("SensorEvaluationContext.instance")
    assert "DagsterInstance.from_ref(self._instance_ref)" in source, changed("SensorEvaluationContext.instance")


def test_output_is_in_files_with_the_same_endings():
    assert {kind.value: ending for kind, ending in IO_TYPE_EXTENSION.items()} == {"stdout": "out", "stderr": "err"}
