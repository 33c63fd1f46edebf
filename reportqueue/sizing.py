"""Sizes of an installation, worked out from its load. Each figure says by which formula, and on what it rests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

DAY = 86_400
"""Seconds."""
RUSH = 10
"""How many times the average rate of a day the busiest minutes have, if nobody says it."""
BUSY = 0.5
"""The share of a processor that the web app may use at the peak: above it, calls begin to wait for each other."""
ENQUEUE_MS, BATCH_MS, SINGLE_MS = 12, 1.8, 37
"""CPU of the web app for one report, in milliseconds: a call that enqueues it, which is a third of the three calls of a
run; its share of a batch; a run of its own."""
BATCH_CPU_MS, SINGLE_CPU_MS = 7.2, 402
"""CPU of all processes and PostgreSQL for one report that does nothing, in milliseconds."""
RUNS_A_SECOND = 12
"""Runs that one Dagster daemon creates."""
LANES, IN_FLIGHT, ROUND_SECONDS = 3, 500, 5
"""Queue sensors of a code location, the unfinished rows of each, and how often Dagster starts a sensor again."""
THREADS = 16
"""Threads of a web process; each may keep a connection."""
SCHEDULER_CONNECTIONS, COMMAND_CONNECTIONS = 4, 1
"""The scheduler's own, one to listen, one for webhooks and one for alerts; one for `manage.py` by hand."""
POOL_FROM = 60
"""Connections from which on PgBouncer is worth its process."""
ROW_BYTES = 1_250
"""Of a finished row with one attempt, with all indexes of both tables."""
KEPT_ROWS, KEPT_DAYS = 5_000_000, 90
"""Finished rows, and days, after which they are deleted."""

BENCHMARKS = "tools/benchmarks/README.md"
MEASURED_COST = f"measured: `cost` in {BENCHMARKS}"


@dataclass(frozen=True)
class Peak:
    """Reports that are due at the same instant."""

    count: int
    hour: int
    minute: int

    def __str__(self) -> str:
        return f"{self.count:,} at {self.hour:02}:{self.minute:02}"


@dataclass(frozen=True)
class Load:
    """What an installation has to do; `seconds` is how long a report takes, `within` how long a peak may take."""

    per_day: int
    seconds: float
    peak: Peak | None = None
    within: int = 600
    by_http: bool = True
    """Whether each report is enqueued by a call of its own over HTTP, and not by a schedule or by code in Django."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a peak with more reports than the day has."""
        if self.peak is not None and self.peak.count > self.per_day:
            raise ValueError(f"the peak has {self.peak.count:,} reports, and the whole day {self.per_day:,}")

    def __str__(self) -> str:
        each = f"{self.per_day:,} reports a day, each of {self.seconds:g} s"
        if self.peak is None:
            return f"{each}."
        return f"{each}. Of these {self.peak} are due at once, and may take {self.within:,} s."


@dataclass(frozen=True)
class Figure:
    """One size: its number, the formula that gives it, and what the numbers of the formula rest on."""

    name: str
    number: float
    unit: str
    formula: str
    """Arithmetic, with `ceil`, `max` and `min`."""
    basis: str

    def __str__(self) -> str:
        return f"{self.name}: {_written(self.number)} {self.unit}".rstrip()


def figures(load: Load) -> list[Figure]:
    """All sizes for a load, in the order in which one plans."""
    return list(_figures(load))


def _figures(load: Load) -> Iterator[Figure]:
    average = load.per_day / DAY
    yield Figure("reports a second, on average", average, "", f"{load.per_day} / {DAY}", "--per-day, spread evenly")
    if load.peak is None:
        rate, formula = average * RUSH, f"{_exact(average)} * {RUSH}"
        basis = f"an assumption: the busiest minutes have {RUSH} times the average. With --peak, say it yourself"
    else:
        rate = average + load.peak.count / load.within
        formula, basis = f"{_exact(average)} + {load.peak.count} / {load.within}", "--peak and --within"
    yield Figure("reports a second, at the peak", rate, "", formula, basis)
    in_batches = rate > RUNS_A_SECOND
    yield Figure(
        "Dagster runs a second, at the peak, if each report has one",
        rate,
        "",
        _exact(rate),
        f"a daemon creates {RUNS_A_SECOND} to 15 a second (seen on a quiet machine). "
        + ("That is too few: let reports share runs (`batch_job`)" if in_batches else "That is enough"),
    )
    yield from _slots(load, average, rate)
    yield from _web(load, rate, in_batches)
    yield from _dagster(load, rate, in_batches)
    yield from _history(load)


def _slots(load: Load, average: float, rate: float) -> Iterator[Figure]:
    seconds = f"{load.seconds:g}"
    for when, reports in (("on average", average), ("at the peak", rate)):
        yield Figure(
            f"slots: runs that work at once, {when}",
            max(1, math.ceil(reports * load.seconds)),
            "",
            f"max(1, ceil({_exact(reports)} * {seconds}))",
            "Little's law, with --seconds: reports a second, times the seconds of each",
        )


def _web(load: Load, rate: float, in_batches: bool) -> Iterator[Figure]:
    share, kind = (BATCH_MS, "in a batch") if in_batches else (SINGLE_MS, "with a run of its own")
    milliseconds = share + (ENQUEUE_MS if load.by_http else 0)
    enqueued = f", and {ENQUEUE_MS} ms for the call that enqueues it" if load.by_http else ""
    processes = max(2, math.ceil(rate * milliseconds / 1000 / BUSY))
    yield Figure(
        "web processes",
        processes,
        f"of {THREADS} threads",
        f"max(2, ceil({_exact(rate)} * {milliseconds:g} / 1000 / {BUSY}))",
        f"{share} ms CPU of the web app for a report {kind}{enqueued} ({MEASURED_COST}). A process uses one processor, "
        f"{BUSY:.0%} of it at the peak. Two, so that one can be restarted while the other one answers",
    )
    connections = processes * (THREADS + 1) + SCHEDULER_CONNECTIONS + COMMAND_CONNECTIONS
    needed = "Put PgBouncer before PostgreSQL" if connections > POOL_FROM else "PgBouncer is not needed"
    yield Figure(
        "connections to the queue's database, at most",
        connections,
        "",
        f"{processes} * ({THREADS} + 1) + {SCHEDULER_CONNECTIONS} + {COMMAND_CONNECTIONS}",
        "of a web process one for each thread and one to listen, two of the scheduler, one of a command. "
        f"{needed}: it is from {POOL_FROM} on, as PostgreSQL allows 100 by default, and Dagster needs some",
    )


def _dagster(load: Load, rate: float, in_batches: bool) -> Iterator[Figure]:
    drained = LANES * IN_FLIGHT / ROUND_SECONDS
    capacity = drained if in_batches else RUNS_A_SECOND
    deployments = max(1, math.ceil(rate / capacity))
    measured = f"measured: `drain` in {BENCHMARKS} has 287"
    yield Figure(
        "Dagster deployments, each with one daemon",
        deployments,
        "",
        f"max(1, ceil({_exact(rate)} / {capacity:g}))",
        f"REPORT_LANES {LANES} * REPORT_MAX_IN_FLIGHT {IN_FLIGHT} / {ROUND_SECONDS} s, Dagster's round ({measured})"
        if in_batches
        else f"a daemon creates {RUNS_A_SECOND} to 15 runs a second (seen on a quiet machine)",
    )
    milliseconds = BATCH_CPU_MS if in_batches else SINGLE_CPU_MS
    yield Figure(
        "processors at the peak, beside the work of the reports themselves",
        rate * milliseconds / 1000,
        "",
        f"{_exact(rate)} * {milliseconds:g} / 1000",
        f"{milliseconds:g} ms CPU for a report that does nothing, of all processes and PostgreSQL ({MEASURED_COST})",
    )
    slots = max(1, math.ceil(rate * load.seconds))
    if load.peak is not None:
        yield Figure(
            "launch of the peak's last report, after",
            load.peak.count / capacity / deployments,
            "s",
            f"{load.peak.count} / {capacity:g} / {deployments}",
            f"the limit of each deployment, {capacity:g} reports a second",
        )
        wait = load.peak.count * load.seconds / slots
        yield Figure(
            "expected wait at the peak, of the last report",
            wait,
            "s",
            f"{load.peak.count} * {load.seconds:g} / {slots}",
            "all slots of the peak work on it. Half of its reports wait for half of that time. A report that finds a "
            "free slot begins after 0.15 s with the warm launcher (measured: `latency`), after some 2 s with Celery, "
            "and after some 18 s in a new pod (both seen once, on a busy machine)",
        )
    else:
        yield Figure(
            "expected wait at the peak",
            0.15,
            "s",
            "0.15",
            "each report finds a free slot of the warm launcher (measured: `latency`). With Celery it begins after "
            "some 2 s, in a new pod after some 18 s (both seen once, on a busy machine)",
        )
    in_flight = LANES * IN_FLIGHT
    yield Figure(
        "run_monitoring.start_timeout_seconds, more than",
        in_flight * load.seconds * deployments / slots,
        "s",
        f"{LANES} * {IN_FLIGHT} * {load.seconds:g} / ({slots} / {deployments})",
        "the last of the rows that a deployment may have in flight waits for all others. It is an upper bound",
    )


def _history(load: Load) -> Iterator[Figure]:
    yield Figure(
        "growth of the queue's tables in a day",
        load.per_day * ROW_BYTES / 1e6,
        "MB",
        f"{load.per_day} * {ROW_BYTES} / 1000000",
        "bytes of a finished row with its attempt and all indexes (measured: 200,000 rows with small parameters and "
        "results, loaded at once). Dagster's tables grow, too, and are not counted here",
    )
    days = max(1, min(KEPT_DAYS, KEPT_ROWS // load.per_day))
    yield Figure(
        "prune_report_queue --older-than, each day",
        days,
        "d",
        f"max(1, min({KEPT_DAYS}, {KEPT_ROWS} // {load.per_day}))",
        f"lists and the admin are as quick at a million rows as at ten thousand (measured: `history`). {KEPT_ROWS:,} "
        "is a judgement",
    )


def _exact(number: float) -> str:
    """A number with enough digits to compute with."""
    return f"{number:.6g}"


def _written(number: float) -> str:
    """A number for people: whole ones as they are, others with three digits."""
    if number == int(number) or number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"
