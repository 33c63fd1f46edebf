"""The processes of runs that are still there, as far as the ledger knows of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import psutil

from tools.chaos.ledger import Line

CLOCK_SECONDS = 2.0
"""How exactly the system says when a process was started, and more."""


@dataclass(frozen=True)
class Remains:
    """A process that a row's run is, or has started."""

    row: int
    process: psutil.Process


def of_rows(lines: Iterable[Line], rows: Collection[int]) -> list[Remains]:
    """Those that are still there of all that these rows' runs were and have started."""
    since_boot = time.time() - time.monotonic()
    found = {line["pid"]: line for line in lines if line["kind"] in ("begin", "process") and line.get("row") in rows}
    return list(_there(found.values(), since_boot))


def _there(lines: Iterable[Line], since_boot: float) -> Iterator[Remains]:
    for line in lines:
        try:
            process = psutil.Process(line["pid"])
            # A younger process has only the number of the one that was meant; a zombie does nothing any more.
            if (
                process.create_time() < line["t"] + since_boot + CLOCK_SECONDS
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                yield Remains(line["row"], process)
        except psutil.NoSuchProcess:
            continue
