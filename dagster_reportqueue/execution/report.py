"""The interface of the report code: its input `ReportRun`, its type `Work`, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from dagster import MetadataValue, OpExecutionContext

from dagster_reportqueue.bounds import MAX_PROGRESS_LENGTH
from dagster_reportqueue.execution.leases import HeldLease


@dataclass(frozen=True)
class ReportRun:
    """The input of the report code; `params` come from the row, never from run config or tags."""

    report_id: int
    modifier_id: int
    run_id: str
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    queue_id: int | None = None
    generation: int | None = None
    attempt: int = 1
    trigger_time: datetime | None = None
    schedule_id: int | None = None
    """None for a row without a schedule, and in a batch."""
    source: str | None = None
    """Who queued the row: `schedule`, `backfill`, `api`, `code`, `admin` or `webhook`. None in a batch."""
    partition_key: str | None = None
    report_name: str = ""
    """Of the report in the catalogue; empty if it has none."""
    _lease: HeldLease | None = field(default=None, repr=False)

    def progress(self, text: str) -> None:
        """Show up to 200 characters with the row in the queue; sent with the next heartbeat."""
        if self._lease is not None:
            self._lease.progress = text[:MAX_PROGRESS_LENGTH]

    def stop_requested(self) -> bool:
        """Whether the work should stop; it may then raise any exception.

        Work in the main thread is interrupted automatically. Work in another thread has to ask, and so has work that
        makes long calls into C code, between them.
        """
        return self._lease is not None and self._lease.stop is not None


def partition_of(context: OpExecutionContext) -> str | None:
    """The partition of the run; None for a run without one."""
    return context.partition_key if context.has_partition_key else None


Work = Callable[[ReportRun], Mapping[str, Any] | None]
"""The report's code: makes the report and returns its result, a JSON object of at most 64 KiB. In it,
`{"artifacts": {name: address}}` becomes links in the queue's admin and in the run's metadata: http(s) addresses, in the
admin also paths of its site. Any other address is shown as a text."""


def is_web_address(address: object) -> bool:
    """Whether an address may become a link in Dagster's UI: http(s) with a host, and nothing else.

    Browsers drop tabs and newlines and read `\\` as `/`: what contains one could be a script, or lead elsewhere. A path
    would lead into Dagster's own site.
    """
    if not isinstance(address, str) or any(character <= " " or character in "\\\x7f" for character in address):
        return False
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def result_metadata(result: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """Convert a result to Dagster metadata: `artifacts` as links, everything else as JSON.

    An artifact whose address is not a web address becomes a text: Dagster's UI would make a link of any address.
    """
    artifacts = result.get("artifacts")
    links = artifacts if isinstance(artifacts, Mapping) else {}
    rest = {name: value for name, value in result.items() if name != "artifacts"}
    metadata: dict[str, MetadataValue] = {
        str(name): MetadataValue.url(str(url)) if is_web_address(url) else MetadataValue.text(str(url))
        for name, url in links.items()
    }
    if rest:
        metadata["result"] = MetadataValue.json(rest)
    return metadata
