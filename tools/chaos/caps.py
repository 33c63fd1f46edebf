"""Caps of the catalogue under faults: another connection looks, again and again, at what is under way."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg

from tools.chaos.system import System

CAPS = {4: 1, 5: 3}
"""How many rows of a report may be under way at once."""
LOOK_SECONDS = 0.05
# A run that exists already may start its row beyond the cap: one whose row had been queued again, or one that a person
# executes again.
UNDER_WAY = """
SELECT report_id, count(*) AS rows FROM reportqueue_reportqueue AS row
WHERE report_id = ANY (%s) AND report_id >= 0 AND status IN ('claimed', 'dispatched', 'running')
  AND NOT (status = 'running' AND (claim_id IS NULL OR EXISTS (
      SELECT FROM reportqueue_reportattempt
      WHERE queue_id = row.id AND run_id = row.run_id AND parent_run_id <> ''
  )))
GROUP BY report_id
"""


class Caps:
    """The capped reports, and the thread that watches them; a context that ends it."""

    def __init__(self, system: System) -> None:
        self.looks = 0
        self.most: Counter[int] = Counter()
        """The most rows of a report that were seen under way at once."""
        self._system = system
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Caps:
        for report, cap in CAPS.items():
            entry = {"report_id": report, "name": f"Capped at {cap}", "max_running": cap}
            self._system.call("POST", "/api/catalogue/", entry)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def report_of(self, number: int) -> int:
        """Which report the row with this number is of: of eight rows, one has the cap of 1, and three that of 3."""
        return {1: 5, 3: 4, 4: 5, 6: 5}.get(number % 8, 1)

    def judge(self, say: Callable[[str], None]) -> bool:
        """Say what was seen; whether rows of each report were under way, and never more than its cap."""
        seen = ", ".join(f"cap {cap}: {self.most[report]} at once at most" for report, cap in CAPS.items())
        say(f"{self.looks:,} looks at the capped reports; {seen}")
        return all(1 <= self.most[report] <= cap for report, cap in CAPS.items())

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                found: list[dict[str, Any]] = self._system.query(UNDER_WAY, list(CAPS))
            except psycopg.OperationalError:
                continue  # PostgreSQL is one of the things that are killed
            self.looks += 1
            for line in found:
                self.most[line["report_id"]] = max(self.most[line["report_id"]], line["rows"])
