"""The sizes that `manage.py size_report_queue` prints: their arithmetic, what they rest on, and what is refused."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from dagster_reportqueue import Environment
from reportqueue import gunicorn, sizing
from reportqueue.sizing import Figure, Load, Peak, figures

ROOT = Path(__file__).resolve().parents[2]
BUSY_DAY = Load(1_000_000, 4, Peak(10_000, 9, 0))
loads = st.builds(
    Load,
    st.integers(100_000, 100_000_000),
    st.floats(0.01, 3600),
    st.none() | st.builds(Peak, st.integers(1, 100_000), st.integers(0, 23), st.integers(0, 59)),
    st.integers(1, 86_400),
    by_http=st.booleans(),
)


def of(load: Load, name: str) -> Figure:
    """The only figure whose name begins so."""
    (found,) = [figure for figure in figures(load) if figure.name.startswith(name)]
    return found


def say(**options: Any) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command(
        "size_report_queue", *(f"--{name.replace('_', '-')}={text}" for name, text in options.items()), stdout=out
    )
    return out.getvalue()


@given(load=loads)
def test_each_formula_gives_its_figure(load: Load):
    for figure in figures(load):
        assert re.fullmatch(r"[\d.e+\-*/(), ]*(?:(?:ceil|max|min)[\d.e+\-*/(), ]*)*", figure.formula), figure
        computed = eval(figure.formula, {"__builtins__": {}, "ceil": math.ceil, "max": max, "min": min})  # noqa: S307
        assert computed == pytest.approx(figure.number, rel=1e-4, abs=1.01 if "ceil" in figure.formula else 0), figure
        assert len(figure.basis) > 10


@pytest.mark.parametrize(
    ("load", "web", "connections", "deployments", "slots", "peak_slots"),
    [
        (Load(10_000, 5), 2, 39, 1, 1, 6),
        (Load(100_000, 5), 2, 39, 1, 6, 58),
        (Load(1_000_000, 5), 4, 73, 1, 58, 579),
        (Load(10_000, 5, Peak(10_000, 9, 0)), 2, 39, 1, 1, 84),
        (Load(8_640_000, 5, by_http=False), 4, 73, 4, 500, 5_000),
    ],
)
def test_the_sizes_of_some_loads(load: Load, web: int, connections: int, deployments: int, slots: int, peak_slots: int):
    assert of(load, "web processes").number == web
    assert of(load, "connections").number == connections
    assert of(load, "Dagster deployments").number == deployments
    assert of(load, "slots: runs that work at once, on average").number == slots
    assert of(load, "slots: runs that work at once, at the peak").number == peak_slots


def test_many_connections_ask_for_pgbouncer_and_few_do_not():
    assert "PgBouncer is not needed" in of(Load(100_000, 5), "connections").basis
    assert "Put PgBouncer before PostgreSQL" in of(Load(1_000_000, 5), "connections").basis


def test_more_runs_than_a_daemon_creates_ask_for_batches():
    assert "`batch_job`" not in of(Load(100_000, 5), "Dagster runs").basis
    assert "`batch_job`" in of(Load(200_000, 5), "Dagster runs").basis


def test_a_peak_waits_for_the_slots_that_it_was_given():
    assert of(BUSY_DAY, "launch of the peak's").number == pytest.approx(33.3, rel=0.01)
    assert 300 < of(BUSY_DAY, "expected wait").number <= 600
    assert of(replace(BUSY_DAY, within=60), "expected wait").number <= 60


def test_old_rows_are_kept_as_long_as_they_are_few():
    kept = [of(Load(count, 1), "prune_report_queue").number for count in (1, 10_000, 100_000, 1_000_000, 100_000_000)]
    assert kept == [90, 90, 50, 5, 1]


def test_its_numbers_are_those_of_the_code_and_of_the_benchmarks():
    defaults = Environment()
    assert (defaults.lanes, defaults.max_in_flight) == (sizing.LANES, sizing.IN_FLIGHT)
    assert gunicorn.threads == sizing.THREADS
    page = (ROOT / sizing.BENCHMARKS).read_text()

    def measured(row: str) -> float:
        (now,) = re.findall(rf"^\| {re.escape(row)} \| [\d.]+ \| ([\d.]+) \|", page, re.MULTILINE)
        return float(now)

    assert measured("`batches`, slow: CPU ms a report") == sizing.BATCH_CPU_MS
    assert measured("`batches`, slow: ms of the web app") == sizing.BATCH_MS
    assert measured("`singles`, slow: CPU ms a report") == sizing.SINGLE_CPU_MS
    assert f"a run of its own took {sizing.SINGLE_MS} ms of the web app" in page
    assert sizing.ENQUEUE_MS == sizing.SINGLE_MS // 3


def test_the_command_prints_each_figure_with_its_formula_and_what_it_rests_on():
    printed = say(per_day=1_000_000, peak="10000@09:00", seconds=4)
    words = " ".join(printed.split())
    assert words.startswith("1,000,000 reports a day, each of 4 s. Of these 10,000 at 09:00 are due at once")
    for figure in figures(BUSY_DAY):
        assert f"{figure} = {figure.formula} {figure.basis}." in words


def test_the_options_change_the_load():
    assert "may take 3,600 s" in say(per_day=10_000, peak="10000@23:59", seconds=4, within="1h")
    assert "for the call that enqueues it" in say(per_day=10_000, seconds=4)
    assert "for the call that enqueues it" not in say(per_day=10_000, seconds=4, enqueue="code")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"per_day": 0, "seconds": 1}, "--per-day"),
        ({"per_day": "1e6", "seconds": 1}, "--per-day"),
        ({"per_day": 5, "seconds": 0}, "--seconds"),
        ({"per_day": 5, "seconds": "nan"}, "--seconds"),
        ({"per_day": 5, "seconds": "inf"}, "--seconds"),
        ({"per_day": 5, "seconds": "four"}, "--seconds"),
        ({"per_day": 5, "seconds": 1, "peak": "5"}, "--peak"),
        ({"per_day": 5, "seconds": 1, "peak": "5@24:00"}, "--peak"),
        ({"per_day": 5, "seconds": 1, "peak": "5@9:60"}, "--peak"),
        ({"per_day": 5, "seconds": 1, "peak": "0@9:00"}, "--peak"),
        ({"per_day": 5, "seconds": 1, "peak": "6@09:00"}, "--peak"),
        ({"per_day": 5, "seconds": 1, "within": "0s"}, "--within"),
        ({"per_day": 5, "seconds": 1, "within": "25h"}, "--within"),
        ({"per_day": 5, "seconds": 1, "within": "ten"}, "--within"),
        ({"per_day": 5, "seconds": 1, "enqueue": "mail"}, "--enqueue"),
        ({"per_day": 5}, "--seconds"),
        ({"seconds": 5}, "--per-day"),
    ],
)
def test_bad_input_is_refused_with_the_name_of_its_option(options: dict[str, Any], named: str):
    with pytest.raises(CommandError, match=f"{named}\\b"):
        say(**options)
