"""Reports slots that stay taken for long while runs wait: without that, all reports could stop silently."""

from __future__ import annotations

import time

from dagster_reportqueue.warm.slots import Holder, Slots

MAX_NAMED = 10


class Stalls:
    """Decides when that is reported, and how. `said` is the last report; None once a slot has become free."""

    def __init__(self, slots: Slots, seconds: float) -> None:
        """The report is due when no slot has become free for so many `seconds`, and again after as long."""
        self._slots = slots
        self._seconds = seconds
        self._due = time.monotonic() + seconds
        self.said: str | None = None

    def moved(self) -> None:
        """A run has started here, or none waits."""
        self.said = None
        self._due = time.monotonic() + self._seconds

    def look(self, waiting: int) -> str | None:
        """The report, if it is due now and so many runs of this server wait; or None."""
        if not waiting:
            self.moved()
        if time.monotonic() < self._due:
            return None
        holders = self._slots.holders()
        # Another server may have taken each slot that became free.
        still = time.time() - max((holder.since for holder in holders), default=0.0)
        if holders and still < self._seconds:
            self.moved()
            self._due -= still
            return None
        self._due = time.monotonic() + self._seconds
        self.said = _in_words(holders, len(self._slots), still, waiting)
        return self.said


def _in_words(holders: list[Holder], count: int, still: float, waiting: int) -> str:
    now = time.time()
    held = sorted(holders, key=lambda holder: holder.since)
    named = ", ".join(f"{one.run_id} (pid {one.pid}, for {now - one.since:.0f} s)" for one in held[:MAX_NAMED])
    more = f" and {len(held) - MAX_NAMED} more" if len(held) > MAX_NAMED else ""
    return (
        f"No slot has become free for {still:.0f} s. The {count} slots of the launcher (max_runs) are held by the runs "
        f"{named}{more}; {waiting} of this server's runs wait. Terminate in Dagster what hangs."
    )
