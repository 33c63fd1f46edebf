"""The database's time between two calls of the API, carried on by this machine's monotonic clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

STEP_SECONDS = 2.0
"""By how much the machine's two clocks may part: more means that it slept, or that its time was set."""


@dataclass
class DatabaseClock:
    """Estimates the database's time, for at most `max_age_seconds` after it was last told.

    The estimate only decides whether to ask the API. What is due is decided by the time that the API tells.
    """

    max_age_seconds: float
    _told: tuple[datetime, float, float] | None = None

    def set(self, now: datetime) -> None:
        """The API has told the time."""
        self._told = (now, time.monotonic(), time.time())

    def estimate(self) -> datetime | None:
        """The time, aware UTC; None if the API has to be asked."""
        if self._told is None:
            return None
        told, monotonic, wall = self._told
        passed = time.monotonic() - monotonic
        # The monotonic clock stands still while the machine sleeps.
        if passed > self.max_age_seconds or abs(time.time() - wall - passed) > STEP_SECONDS:
            return None
        return told + timedelta(seconds=passed)
