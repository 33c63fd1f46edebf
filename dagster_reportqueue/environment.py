"""The settings of a code location, from its environment; docs/settings.md lists the variables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from dagster_reportqueue.arguments import (
    LIMIT,
    MAX_BATCH,
    MAX_INTERVAL_SECONDS,
    MAX_LANES,
    check_list,
    check_name,
    check_number,
    check_routes,
    refusal,
)
from dagster_reportqueue.bounds import MAX_COUNT, MAX_LEASE_SECONDS, MIN_LEASE_SECONDS
from dagster_reportqueue.execution.run import LEASE_SECONDS
from dagster_reportqueue.tickets import MAX_RUN_ROWS

PATTERNS = ("cron", "asset", "polling", "queue")
DEFAULT_URL = "http://127.0.0.1:8000"
NUMBERS = {
    "lease_seconds": ("REPORT_LEASE_SECONDS", MIN_LEASE_SECONDS, MAX_LEASE_SECONDS),
    "cron_interval_seconds": ("CRON_SENSOR_INTERVAL", 1, MAX_INTERVAL_SECONDS),
    "lanes": ("REPORT_LANES", 1, MAX_LANES),
    "max_in_flight": ("REPORT_MAX_IN_FLIGHT", 1, MAX_COUNT),
    "max_unstarted": ("REPORT_MAX_UNSTARTED", 1, MAX_COUNT),
    "batch_from": ("REPORT_BATCH_FROM", 2, LIMIT),
    "batch_size": ("REPORT_BATCH_SIZE", 1, MAX_RUN_ROWS),
    "batch_runs": ("REPORT_BATCH_RUNS", 1, MAX_BATCH),
}
"""The variable of each number, with its lowest and its highest value."""


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
    max_unstarted: int = 500
    """Of these, the ones that no run has started; fewer leave rows to other deployments of Dagster."""
    batch_from: int = 20
    batch_size: int = 250
    """With 1, every report has a run of its own."""
    batch_runs: int = 4
    """Runs among which a claim is divided; no fewer than the launcher makes at once."""
    consumer: str = "database_queue_sensor-{deployment}"
    """The name under which rows are claimed, in each deployment of Dagster another one."""
    routes: tuple[str, ...] | None = None
    """The routes whose rows are claimed; None: all."""

    def __post_init__(self) -> None:
        check_list("patterns", self.patterns, str, "the name of a pattern")
        _check_patterns("patterns", self.patterns)
        check_name("consumer", self.consumer)
        check_routes("routes", self.routes)
        for name, (_, low, high) in NUMBERS.items():
            check_number(name, getattr(self, name), low, high)

    @classmethod
    def read(cls) -> Self:
        """Read the environment. Raises `ValueError` that names an invalid variable."""
        # `dagster definitions validate` must work without these variables. Later, a tick reports what is missing.
        os.environ.setdefault("REPORTQUEUE_URL", DEFAULT_URL)
        os.environ.setdefault("REPORTQUEUE_TOKEN", "not-set")
        patterns = tuple(name.strip() for name in os.environ.get("REPORT_TRIGGER_PATTERN", "queue").split(","))
        _check_patterns("REPORT_TRIGGER_PATTERN", patterns)
        consumer = os.environ.get("REPORT_CONSUMER", "").strip() or cls.consumer
        check_name("REPORT_CONSUMER", consumer)
        named = [name.strip() for name in os.environ.get("REPORT_ROUTES", "").split(",") if name.strip()]
        routes = tuple(named) if named else None
        check_routes("REPORT_ROUTES", routes)
        return cls(
            patterns, consumer=consumer, routes=routes, **{name: _number(name, getattr(cls, name)) for name in NUMBERS}
        )


def _check_patterns(where: str, patterns: Sequence[str]) -> None:
    for name in patterns:
        if name not in PATTERNS:
            raise ValueError(
                f"{where} has {name!r}; it names one or several of cron, asset, polling and queue, with commas between "
                "them."
            )
    if not patterns or len(set(patterns)) < len(patterns):
        raise ValueError(f"{where} must name at least one pattern, and none of them twice.")


def _number(name: str, default: int) -> int:
    variable, low, high = NUMBERS[name]
    text = os.environ.get(variable, "")
    try:
        number = int(text) if text.strip() else default
    except ValueError:
        raise ValueError(refusal(variable, f"a whole number from {low} to {high:,}", text)) from None
    check_number(variable, number, low, high)
    return number
