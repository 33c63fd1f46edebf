"""The product's code location for a drain with kills: its report takes a moment and records its begin and end."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from typing import Any

from dagster_reportqueue.definitions import build_definitions
from dagster_reportqueue.execution.report import ReportRun
from tools.benchmarks import record
from tools.chaos.ledger import Ledger

WORK_SECONDS = 0.05
"""Long enough for a kill during a report."""


def make_report(run: ReportRun) -> Mapping[str, Any]:
    """Record its begin and its end; a killed report records no end."""
    if run.queue_id is None:  # as in the launcher's warm-up
        return {}
    facts = {"row": run.queue_id, "run": run.run_id, "attempt": run.attempt, "pid": os.getpid()}
    _ledger().write("begin", **facts)
    outcome = "raise"
    try:
        time.sleep(WORK_SECONDS)
        outcome = "ok"
    finally:
        _ledger().write("end", outcome=outcome, **facts)
    return {"rows": 1}


@functools.cache
def _ledger() -> Ledger:
    return Ledger(os.environ[record.VARIABLE])


defs = build_definitions(make_report)
