"""Reports that no slot becomes free while runs wait: without this, all reports could stop without a message."""

from __future__ import annotations

import time

from dagster_reportqueue.warm.processes import listed
from dagster_reportqueue.warm.slots import Holder, Slots


class Stalls:
    """Decides when a stall is reported. `report` is the last report; None once a slot has become free."""

    def __init__(self, slots: Slots, seconds: float) -> None:
        """A report is due when no slot has become free for so many `seconds`, and then again every `seconds`."""
        self._slots = slots
        self._seconds = seconds
        self._due = time.monotonic() + seconds
        self.report: str | None = None

    def progressed(self) -> None:
        """A run has started in this server, or none waits."""
        self.report = None
        self._due = time.monotonic() + self._seconds

    def due_report(self, waiting: int) -> str | None:
        """The report if one is due now, else None; `waiting` is how many runs of this server wait."""
        if not waiting:
            self.progressed()
        if time.monotonic() < self._due:
            return None
        holders = self._slots.holders()
        # Another server may have taken each slot that became free.
        still = time.time() - max((holder.since for holder in holders), default=0.0)
        if holders and still < self._seconds:
            self.progressed()
            self._due -= still
            return None
        self._due = time.monotonic() + self._seconds
        self.report = _in_words(holders, len(self._slots), still, waiting)
        return self.report


def _in_words(holders: list[Holder], count: int, still: float, waiting: int) -> str:
    now = time.time()
    held = sorted(holders, key=lambda holder: holder.since)
    named = listed(f"{one.run_id} (pid {one.pid}, for {now - one.since:.0f} s)" for one in held)
    return (
        f"No slot has become free for {still:.0f} s. The {count} slots of the launcher (max_runs) are held by the runs "
        f"{named}; {waiting} of this server's runs wait. Terminate runs that hang in Dagster."
    )
