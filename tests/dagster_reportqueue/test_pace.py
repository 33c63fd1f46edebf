"""How many rows a sensor claims ahead of its runs, by how fast they start."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dagster_reportqueue.sensors import pace
from dagster_reportqueue.sensors.pace import AHEAD_SECONDS, FIRST, Pace

ROUND_SECONDS = 5.0
"""How often Dagster's daemon evaluates a sensor."""


class Consumer:
    """A consumer with a backlog without an end, whose runs start so many rows a second, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, least: int = 20, most: int = 500) -> None:
        self.pace = Pace(least=least, most=most)
        self.unstarted = 0.0
        self.now = 1_000.0
        monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: self.now))

    def claims(self, due: int = 10**6) -> int:
        """The rows that it gets."""
        got = max(0, min(due, self.pace.ahead - int(self.unstarted)))
        self.unstarted += got
        self.pace.claimed(got, unstarted=int(self.unstarted))
        return got

    def works(self, rate: float, seconds: float = ROUND_SECONDS) -> None:
        self.now += seconds
        self.unstarted = max(0.0, self.unstarted - rate * seconds)


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    return Consumer(monkeypatch)


def test_quick_reports_soon_get_all_that_is_allowed(consumer: Consumer):
    got = []
    for _ in range(4):
        got.append(consumer.claims())
        consumer.works(rate=100)
    assert got == [FIRST, FIRST, 480, 480]
    assert consumer.pace.ahead == 500


def test_slow_reports_leave_the_rows_to_others(consumer: Consumer):
    consumer.claims()
    for _ in range(60):
        consumer.works(rate=0.2)
        consumer.claims()
    assert consumer.pace.ahead == 20


def test_it_holds_what_its_runs_start_in_half_a_minute(consumer: Consumer):
    for _ in range(60):
        consumer.claims()
        consumer.works(rate=4)
    assert consumer.pace.ahead == pytest.approx(4 * AHEAD_SECONDS, rel=0.1)


def test_an_engine_that_takes_long_to_start_its_first_runs_is_not_starved(consumer: Consumer):
    consumer.claims()
    found = []
    for _ in range(4):
        consumer.works(rate=0)
        consumer.claims()
        found.append(consumer.pace.ahead)
    assert found == [40, 20, 20, 20], "less is believed by halves"
    consumer.works(rate=100)
    consumer.claims()
    assert consumer.pace.ahead == 480


def test_reports_that_are_rarely_due_say_nothing_of_the_runs(consumer: Consumer):
    for _ in range(100):
        consumer.claims(due=1)
        consumer.works(rate=10, seconds=20)
    assert consumer.pace.ahead == FIRST


def test_claims_in_quick_succession_are_measured_together(consumer: Consumer):
    consumer.claims()
    for _ in range(50):
        consumer.works(rate=10, seconds=0.1)
        consumer.claims()
    assert consumer.pace.ahead == pytest.approx(10 * AHEAD_SECONDS, rel=0.1)


@pytest.mark.parametrize(("least", "most", "first"), [(20, 5, 5), (200, 500, 200), (20, 500, FIRST)])
def test_the_bounds_hold_from_the_first_claim_on(monkeypatch: pytest.MonkeyPatch, least: int, most: int, first: int):
    consumer = Consumer(monkeypatch, least=least, most=most)
    assert consumer.claims() == first
    for rate in (1000, 0, 0, 0, 0, 0, 0):
        consumer.works(rate=rate)
        consumer.claims()
        assert min(least, most) <= consumer.pace.ahead <= most
