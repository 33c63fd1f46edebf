"""How many rows a consumer claims ahead of its runs: what they will start soon, by how fast they started the last ones.

What a deployment has claimed, another one cannot make, and a row of a higher priority comes after it.
"""

from __future__ import annotations

import math
import time

AHEAD_SECONDS = 30.0
"""So much work may wait for a run. Dagster's daemon evaluates a sensor every 5 s, and a run takes time to start."""
MEASURED_SECONDS = 2.5
"""How long starts are counted, at least, before they say how fast the runs are."""
FIRST = 80
"""Rows ahead before anything was measured."""


class Pace:
    """The rows that may be claimed and not started; kept between the ticks of a sensor, in its process."""

    def __init__(self, *, least: int, most: int) -> None:
        """`least` are so many that no slot of the launcher waits for a tick; `most` is the sensor's `max_in_flight`."""
        self._least, self._most = min(least, most), most
        self._ahead = min(max(FIRST, least), most)
        self._since = -math.inf
        self._to_start = 0
        self._bounded = False

    @property
    def ahead(self) -> int:
        """The most rows that may have been claimed and not started."""
        return self._ahead

    def claimed(self, number: int, *, unstarted: int) -> None:
        """Note a claim of a `number` of rows, after which so many are `unstarted`, these included."""
        now, left = time.monotonic(), unstarted - number
        seconds = now - self._since
        if self._bounded and seconds >= MEASURED_SECONDS:
            soon = max(0, self._to_start - left) / seconds * AHEAD_SECONDS
            # If nothing is left, the runs could have started more. Less is believed by halves: an engine may take
            # longer to start its runs than starts are counted.
            wanted = max(soon, self._ahead * 2 if left <= 0 else self._ahead / 2)
            self._ahead = round(min(max(wanted, self._least), self._most))
        if seconds >= MEASURED_SECONDS:
            # Only what waits for runs says how fast they are, not what waits for reports to be due.
            self._since, self._to_start, self._bounded = now, left, unstarted >= self._ahead
        self._to_start += number
