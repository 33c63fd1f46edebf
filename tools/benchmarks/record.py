"""What reports write down of themselves, outside of every system: a line each, appended in one piece."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "BENCHMARK_RECORD"
"""The file's path, for the code locations."""


@dataclass(frozen=True)
class Line:
    """One report was made: its row, in its how-manieth attempt, by which run, and when (`time.time()`) that began."""

    row: int
    attempt: int
    run: str
    at: float


def write(row: int, *, attempt: int, run: str) -> None:
    """Of a report that is made now. A process that is killed has written its whole line, or nothing of it."""
    text = json.dumps(asdict(Line(row, attempt, run, time.time()))) + "\n"
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> Iterator[Line]:
    """What was written so far."""
    if path.exists():
        for text in path.read_text().splitlines():
            yield Line(**json.loads(text))
