"""A file in which each report records itself: a line for each, appended in one write."""

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
    """A report that was made: its row, its attempt, its run, and when (`time.time()`) it began."""

    row: int
    attempt: int
    run: str
    at: float


def write(row: int, *, attempt: int, run: str) -> None:
    """Record a report now. A killed process has written its whole line or nothing."""
    text = json.dumps(asdict(Line(row, attempt, run, time.time()))) + "\n"
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> Iterator[Line]:
    """The records written so far."""
    if path.exists():
        for text in path.read_text().splitlines():
            yield Line(**json.loads(text))
