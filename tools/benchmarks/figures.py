"""What the tools.benchmarks say of what they measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def p95(found: Sequence[float]) -> float:
    """The value that one in twenty exceeds."""
    return sorted(found)[-(-len(found) * 95 // 100) - 1]


def load() -> str:
    """How busy the machine is, as its kernel says: processes on average of 1, 5 and 15 minutes, and now."""
    return Path("/proc/loadavg").read_text().strip()
