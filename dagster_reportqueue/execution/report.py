"""A report as its code sees it: what is to be made, the code itself, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dagster import MetadataValue

from dagster_reportqueue.execution.leases import Pulse


@dataclass(frozen=True)
class ReportRun:
    """What the report's code is given; `params` come from the row, never from run config or tags."""

    report_id: int
    modifier_id: int
    run_id: str
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    queue_id: int | None = None
    generation: int | None = None
    attempt: int = 1
    trigger_time: datetime | None = None
    _pulse: Pulse | None = field(default=None, repr=False)

    def progress(self, text: str) -> None:
        """Show up to 200 characters to whoever looks at the row; sent with the next heartbeat."""
        if self._pulse is not None:
            self._pulse.progress = text[:200]

    def stop_requested(self) -> bool:
        """Whether the work is no longer wanted: raise anything to end it.

        In the main thread the work is interrupted anyway; in another thread, or between long calls into C code,
        it has to ask.
        """
        return self._pulse is not None and self._pulse.stop is not None


Work = Callable[[ReportRun], Mapping[str, Any] | None]
"""The report's code: makes the report and returns its result, a JSON object of at most 64 KiB. In it,
`{"artifacts": {name: address}}` becomes links in the queue's admin and in the run's metadata."""


def result_metadata(result: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """A result as Dagster metadata: `artifacts` as links, everything else as it is."""
    artifacts = result.get("artifacts")
    links = artifacts if isinstance(artifacts, Mapping) else {}
    rest = {name: value for name, value in result.items() if name != "artifacts"}
    metadata: dict[str, MetadataValue] = {str(name): MetadataValue.url(str(url)) for name, url in links.items()}
    if rest:
        metadata["result"] = MetadataValue.json(rest)
    return metadata
