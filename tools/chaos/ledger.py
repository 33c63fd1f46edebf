"""What really happened, in a file that no part of the system reads or writes: one JSON object a line.

Each line is one `write` to a file opened with O_APPEND, so lines of many processes never mix. Times are
CLOCK_MONOTONIC, one clock for all processes of the machine. Kinds of lines:

    begin, end     by the report's code: row, run, attempt, pid; `outcome` ok or raise
    stop, cont     a process was frozen (SIGSTOP) and woken up (SIGCONT): run, pid
    death          seen by the parent that reaped it, or by who watched: pid, run, signal (0 if it ended by itself)
    fault          an injected fault: its point, the rows that it may touch, `pids` of those that it kills, `outage` if
                   calls may have got lost
    accepted       the proxy saw a `complete` answered with 200: row, run
    cycle          a finished row was asked for once more: row
    late           not final at its deadline: row
    given up       not final at its deadline, and ended by the harness: row
    expected       a bad report: row, the statuses in which it may end, how often it is begun (`least`, `most`)
    beside         good reports that share the time of a point, or the run of its report: point, rows
    process        started by a report's process, and meant to stay: row, run, pid
    met            how a row's meeting ended: row, run, whether `everybody` was there
    problem        found by a wave itself, outside the rows: point, verdict, text
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Ledger:
    """Appends lines; usable across forks, as every line is one write."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, **facts: Any) -> None:
        """One line, with the time."""
        line = {"t": round(time.monotonic(), 4), "kind": kind, **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def fault(self, point: str, rows: Iterable[int], **facts: Any) -> None:
        """One injected fault."""
        self.write("fault", point=point, rows=sorted(set(rows)), **facts)


class Tail:
    """Reads a ledger that is being written: each call of `lines()` gives what is new."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._offset = 0

    def lines(self) -> Iterator[Line]:
        """The complete lines since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


def read(path: str | Path) -> list[Line]:
    """All lines, in the order of their times."""
    return sorted(Tail(path).lines(), key=lambda line: float(line["t"]))
