"""Events of a run's reports, many stored with one statement. One by one, they cost a third of a quick report's CPU."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun, EventLogEntry
from dagster._core.events import EngineEventData
from dagster._core.storage.event_log import SqlEventLogStorage


@dataclass(frozen=True)
class ReportEvent:
    """What the run's log shows of one report."""

    text: str
    data: EngineEventData


def store(instance: DagsterInstance, run: DagsterRun, step_key: str, events: Sequence[ReportEvent]) -> None:
    """Store the events in Dagster, in their order. What its storage does not take is printed instead.

    The events only show what the queue knows already: a storage that fails must not end the run.
    """
    try:
        storage = instance.event_log_storage
        if len(events) > 1 and isinstance(storage, SqlEventLogStorage):
            # `store_event_batch` takes events of assets only. This is what `store_event` does for such an event, but
            # for a NOTIFY that nobody waits for any more.
            entries = [_entry(run, step_key, event) for event in events]
            with storage.run_connection(run.run_id) as connection:
                connection.execute(storage.prepare_insert_event_batch(entries))
        else:
            for event in events:
                instance.report_engine_event(event.text, run, event.data, step_key=step_key)
    except Exception as unstored:
        for event in events:
            print(f"{event.text} Dagster's storage did not take this event: {unstored}", file=sys.stderr)


def _entry(run: DagsterRun, step_key: str, event: ReportEvent) -> EventLogEntry:
    """As `DagsterInstance.report_engine_event` makes it."""
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.ERROR if event.data.error else logging.INFO,
        user_message="",
        run_id=run.run_id,
        timestamp=time.time(),
        step_key=step_key,
        job_name=run.job_name,
        dagster_event=DagsterEvent(
            event_type_value=DagsterEventType.ENGINE_EVENT.value,
            job_name=run.job_name,
            message=event.text,
            event_specific_data=event.data,
            step_key=step_key,
        ),
    )
