"""A code location for benchmarks: its reports do nothing but note when they begin, in the file that NOTES names."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from orchestrator.execution import ReportRun
from orchestrator.location import build_definitions

NOTES = "REPORT_NOTES"


def note(run: ReportRun) -> dict[str, Any]:
    """One line of JSON, appended in one piece: who it is, and the time (seconds since 1970, UTC)."""
    began = time.time()
    due = None if run.trigger_time is None else run.trigger_time.timestamp()
    line = {"report": run.report_id, "modifier": run.modifier_id, "run": run.run_id, "due": due, "began": began}
    file = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)
    return {}


defs = build_definitions(note)
