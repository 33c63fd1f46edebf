"""Charts as SVG without script and without style of their own: what a chart shows is in a table beside it, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reportqueue.admin import formats
from reportqueue.measures import Throughput
from reportqueue.models import Depth

WIDTH, HEIGHT = 720, 120
"""Of the drawing, in its own units: it is as wide as the page allows."""
GAP = 1


@dataclass(frozen=True)
class Bar:
    """A bar of one period: the part that failed is above the part that succeeded."""

    begin: str
    """When its period begins, by the viewer's clock and in UTC."""
    x: float
    width: float
    good: float
    """The height of the part that succeeded."""
    bad: float
    succeeded: int
    failed: int

    @property
    def good_y(self) -> float:
        """Where the part that succeeded begins, from above."""
        return round(HEIGHT - self.good, 1)

    @property
    def bad_y(self) -> float:
        """Where the part that failed begins."""
        return round(HEIGHT - self.good - self.bad, 1)


@dataclass(frozen=True)
class Bars:
    """A chart of how many reports ended in each period."""

    bars: list[Bar]
    highest: int
    """The most that ended in one period."""
    succeeded: int
    failed: int
    width: int = WIDTH
    height: int = HEIGHT


def bars(periods: Sequence[Throughput]) -> Bars:
    """The chart of these periods."""
    highest = max((one.succeeded + one.failed for one in periods), default=0)
    step = WIDTH / max(1, len(periods))

    def tall(count: int) -> float:
        return round(count / max(1, highest) * HEIGHT, 1)

    drawn = [
        Bar(
            begin=formats.instant_text(one.start, minutes=True),
            x=round(place * step, 1),
            width=round(max(0.5, step - GAP), 1),
            good=tall(one.succeeded),
            bad=tall(one.failed),
            succeeded=one.succeeded,
            failed=one.failed,
        )
        for place, one in enumerate(periods)
    ]
    return Bars(drawn, highest, sum(one.succeeded for one in periods), sum(one.failed for one in periods))


@dataclass(frozen=True)
class Lines:
    """A chart of how many rows waited and were in flight; a gap where nobody counted."""

    waiting: list[str]
    """The points of each unbroken line, as SVG has them."""
    in_flight: list[str]
    highest: int
    depths: Sequence[Depth]
    width: int = WIDTH
    height: int = HEIGHT


def lines(depths: Sequence[Depth], begin: datetime, end: datetime) -> Lines:
    """The chart of these depths, from `begin` to `end`."""
    counted = [one for one in depths if one.waiting is not None]
    highest = max((max(one.waiting or 0, one.in_flight or 0) for one in counted), default=0)
    return Lines(
        _line(depths, "waiting", highest, begin, end), _line(depths, "in_flight", highest, begin, end), highest, counted
    )


def _line(depths: Sequence[Depth], name: str, highest: int, begin: datetime, end: datetime) -> list[str]:
    length = max(1.0, (end - begin).total_seconds())
    parts: list[list[str]] = [[]]
    for one in depths:
        count = getattr(one, name)
        if count is None:
            parts.append([])
            continue
        x = (one.start - begin).total_seconds() / length * WIDTH
        y = HEIGHT - count / max(1, highest) * (HEIGHT - 2) - 1
        parts[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(points) for points in parts if len(points) > 1]
