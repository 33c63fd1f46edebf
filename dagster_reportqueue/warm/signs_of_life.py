"""Signs that the warm servers of a host live, in Dagster's storage: a daemon on another host cannot ask them.

A server gives one as often as it audits its runs. Hosts whose clocks differ by minutes take each other for dead.
"""

from __future__ import annotations

import socket
import time

from dagster import DagsterInstance

SILENT_SECONDS = 180.0
"""After how long without a sign a host counts as gone: it has missed three."""
KEY = "reportqueue/warm-servers/{}"


def give(instance: DagsterInstance) -> None:
    """Say that the servers of this host live."""
    instance.run_storage.set_cursor_values({KEY.format(socket.gethostname()): str(time.time())})


def seen(instance: DagsterInstance, host: str, run_id: str) -> bool:
    """Whether a host gave a sign of late, or has a run that is too young for one."""
    key = KEY.format(host)
    last = [float(instance.run_storage.get_cursor_values({key}).get(key, 0.0))]
    if (record := instance.get_run_record_by_id(run_id)) is not None:
        last.append(record.start_time or record.create_timestamp.timestamp())
    return max(last) > time.time() - SILENT_SECONDS
