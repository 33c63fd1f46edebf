"""The output of runs, written straight into the files that Dagster shows.

Dagster's own `LocalComputeLogManager` writes the same files, and shows the output in the terminal as well. For that it
starts four helper processes for each captured step, two of them Python interpreters, which is a fifth of the CPU of a
short run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dagster import Field, Float, StringSource
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._serdes import ConfigurableClassData
from dagster._utils import ensure_file, touch_file


class DirectComputeLogManager(LocalComputeLogManager):
    """Dagster's local files of output, without helper processes; the terminal does not show the output.

    For `compute_logs` in dagster.yaml. `base_dir` is the folder of the files: by default that of Dagster's own manager,
    `storage` in DAGSTER_HOME.
    """

    @classmethod
    def config_type(cls) -> Any:
        """The options in dagster.yaml: those of `LocalComputeLogManager`."""
        return {
            "base_dir": Field(StringSource, is_required=False),
            "polling_timeout": Field(Float, is_required=False),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Called by Dagster. Raises `DagsterInvariantViolationError` without a folder for the files."""
        home = os.environ.get("DAGSTER_HOME", "")
        if not config_value.get("base_dir") and not home:
            raise DagsterInvariantViolationError(
                "compute_logs needs `base_dir` in dagster.yaml, or the environment variable DAGSTER_HOME."
            )
        return cls(inst_data=inst_data, **{"base_dir": str(Path(home) / "storage"), **config_value})

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Write what this process and its children print into the key's files."""
        out, error = (self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind]) for kind in ComputeIOType)
        for path in (out, error):
            ensure_file(path)
        with redirect_to_file(sys.stdout, out), redirect_to_file(sys.stderr, error):
            yield CapturedLogContext(log_key)
        # This file tells readers that follow the output that it is complete.
        touch_file(self.complete_artifact_path(log_key))  # type: ignore[no-untyped-call]
