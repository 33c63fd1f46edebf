"""Statistics of the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def p95(found: Sequence[float]) -> float:
    """The 95th percentile."""
    return sorted(found)[-(-len(found) * 95 // 100) - 1]


def load() -> str:
    """The kernel's load averages of 1, 5 and 15 minutes, and the processes that run now."""
    return Path("/proc/loadavg").read_text().strip()
