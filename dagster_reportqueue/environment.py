"""The settings of a code location, from its environment; docs/settings.md lists the variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from dagster_reportqueue.execution.run import LEASE_SECONDS, check_lease_seconds

PATTERNS = ("cron", "asset", "polling", "queue")
DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Environment:
    """Settings that differ between installations; read once, when the code location is loaded."""

    patterns: tuple[str, ...] = ("queue",)
    """The patterns whose sensors run; several during a switch from one pattern to another."""
    lease_seconds: int = LEASE_SECONDS
    cron_interval_seconds: int = 30
    lanes: int = 3
    max_in_flight: int = 500
    """Further rows wait in the queue, in order of priority, instead of waiting as runs in Dagster."""
    batch_from: int = 20
    batch_size: int = 250
    """With 1, every report has a run of its own."""
    batch_runs: int = 4
    """Runs among which a claim is divided; no fewer than the launcher makes at once."""

    @classmethod
    def read(cls) -> Self:
        """Read the environment. Raises `ValueError` that names an invalid variable."""
        # `dagster definitions validate` must work without these variables. Later, a tick reports what is missing.
        os.environ.setdefault("REPORTQUEUE_URL", DEFAULT_URL)
        os.environ.setdefault("REPORTQUEUE_TOKEN", "not-set")
        read = cls(
            patterns=_patterns(os.environ.get("REPORT_TRIGGER_PATTERN", "queue")),
            lease_seconds=_number("REPORT_LEASE_SECONDS", cls.lease_seconds),
            cron_interval_seconds=_number("CRON_SENSOR_INTERVAL", cls.cron_interval_seconds),
            lanes=_number("REPORT_LANES", cls.lanes),
            max_in_flight=_number("REPORT_MAX_IN_FLIGHT", cls.max_in_flight),
            batch_from=_number("REPORT_BATCH_FROM", cls.batch_from),
            batch_size=_number("REPORT_BATCH_SIZE", cls.batch_size),
            batch_runs=_number("REPORT_BATCH_RUNS", cls.batch_runs),
        )
        check_lease_seconds(read.lease_seconds)
        return read


def _patterns(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PATTERNS:
            raise ValueError(
                f"REPORT_TRIGGER_PATTERN has {name!r}; it names one or several of cron, asset, polling and queue, "
                "with commas between them."
            )
    return names


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    try:
        return int(text) if text.strip() else default
    except ValueError:
        raise ValueError(f"{name} must be a whole number; it is {text!r}.") from None
