"""The metrics by their names, made from readings; docs/metrics.md explains them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as Base

from reportqueue.measures import BINS, widest
from reportqueue.metrics.readings import COUNTED, Readings
from reportqueue.models.pause import Scope
from reportqueue.states import FINAL
from reportqueue.totals import Times, Total

EVERY = 3
"""Each bucket has so many bins: it is about twice as wide as the one before."""
BOUNDS = [*range(0, 66, EVERY)]
"""The bins whose widest time ends a bucket: from 0.05 s to 17 hours. All longer times are in the last bucket."""


class Collector(Base):
    """What one call answers."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._queue()
        yield from self._routes()
        yield from self._watched()
        yield from self._reports()

    def _queue(self) -> Iterator[Metric]:
        found = self._readings
        rows = GaugeMetricFamily("reportqueue_rows", "Unfinished rows, counted up to a bound.", labels=["status"])
        for status, count in found.rows.items():
            rows.add_metric([status], count)
        yield rows
        yield _gauge("reportqueue_counted_up_to", "The bound up to which rows are counted.", COUNTED)
        yield _gauge("reportqueue_oldest_due_seconds", "How long the first due row waits.", found.oldest_due_seconds)
        yield _gauge("reportqueue_late_rows", "Unfinished rows whose deadline is over.", found.late)
        yield _gauge("reportqueue_retrying_rows", "Queued rows that wait for another try.", found.retrying)
        yield _gauge(
            "reportqueue_failed_last_hour_rows",
            "Rows that failed in the last hour and are still failed, without those of a muted failure.",
            found.failed,
        )

    def _routes(self) -> Iterator[Metric]:
        due = GaugeMetricFamily("reportqueue_due_rows", "Rows that are due and not handed out.", labels=["route"])
        flight = GaugeMetricFamily(
            "reportqueue_in_flight_rows", "Rows that a consumer or a run holds.", labels=["route", "state"]
        )
        for route, depth in self._readings.routes.items():
            due.add_metric([route], depth.due)
            flight.add_metric([route, "launched"], depth.launched)
            flight.add_metric([route, "running"], depth.running)
        yield from (due, flight)

    def _watched(self) -> Iterator[Metric]:
        found = self._readings
        yield _gauge("reportqueue_stalled", "1 if reports do not move; /status says why.", found.stalled)
        yield _gauge("reportqueue_overdue_schedules", "Schedules that should have fired.", found.overdue_schedules)
        paused = GaugeMetricFamily("reportqueue_paused", "What is paused.", labels=["scope", "name"])
        for (scope, name), count in ({(Scope.QUEUE.value, ""): 0} | found.pauses).items():
            paused.add_metric([scope, name], count)
        yield paused
        seen = GaugeMetricFamily(
            "reportqueue_consumer_silent_seconds",
            "Seconds since a consumer last asked, noted every 30 s.",
            labels=["pattern", "consumer"],
        )
        for key, seconds in found.consumers.items():
            seen.add_metric(list(key), seconds)
        yield seen
        if found.measured_until is not None:
            yield _gauge(
                "reportqueue_measured_until_timestamp_seconds",
                "Up to when ended rows are in the counters below.",
                found.measured_until.timestamp(),
            )

    def _reports(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("reportqueue_report_info", "The names of reports.", labels=["report", "name"])
        for number, name in self._readings.names.items():
            info.add_metric([number, name], 1)
        yield info
        ended = CounterMetricFamily("reportqueue_ended_rows", "Rows that have ended.", labels=["report", "status"])
        waits = HistogramMetricFamily("reportqueue_wait_seconds", "From due to started; ended rows.", labels=["report"])
        runs = HistogramMetricFamily(
            "reportqueue_run_seconds", "From started to finished; ended rows.", labels=["report"]
        )
        for number, total in self._readings.reports.items():
            _add_ended(ended, number, total)
            for family, times in ((waits, total.waited), (runs, total.ran)):
                if times.bins:
                    family.add_metric([number], _buckets(times), times.total)
        yield from (ended, waits, runs)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _add_ended(family: CounterMetricFamily, number: str, total: Total) -> None:
    # Also those that are 0: Prometheus sees no increase to the first value of a series.
    for status in sorted(FINAL):
        family.add_metric([number, status], total.ended.get(status, 0))


def _buckets(times: Times) -> list[tuple[str, float]]:
    """For each bucket, how many times are at most so long."""
    up_to = list(accumulate(times.bins.get(place, 0) for place in range(BINS + 1)))
    return [*((f"{widest(place):.6g}", float(up_to[place])) for place in BOUNDS), ("+Inf", float(up_to[-1]))]
