"""Figures and tables that any series of values over time can have.

`values` is everywhere a float series, indexed by ascending dates, not empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .page import Figure, Table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Notation:
    """How one report writes its values and dates."""

    unit: str
    step: str
    """What each value stands for, in the plural: "days"."""
    number: str
    """A format specification: ".1f"."""
    date: str
    """A strftime format: the day for daily values, the month for monthly ones."""

    def write(self, value: float) -> str:
        """The value as text, without its unit."""
        return format(value, self.number).replace("-", "\N{MINUS SIGN}")


def lowest(values: pd.Series[float], notation: Notation) -> Figure:
    """The minimum, and the first date that has it."""
    return _dated("Lowest", values, int(values.argmin()), notation)


def highest(values: pd.Series[float], notation: Notation) -> Figure:
    """The maximum, and the first date that has it."""
    return _dated("Highest", values, int(values.argmax()), notation)


def mean(values: pd.Series[float], notation: Notation) -> Figure:
    """The arithmetic mean of all values."""
    return Figure("Mean", notation.write(values.mean()), notation.unit, f"of {len(values)} {notation.step}")


def total(values: pd.Series[float], notation: Notation) -> Figure:
    """The sum of all values."""
    return Figure("Total", notation.write(values.sum()), notation.unit, f"in {len(values)} {notation.step}")


def change(values: pd.Series[float], notation: Notation) -> Figure:
    """The last value against the first, in percent of the first."""
    first, last = values.iloc[0], values.iloc[-1]
    percent = format((last / first - 1) * 100, "+.1f").replace("-", "\N{MINUS SIGN}")
    return Figure("Change", percent, "%", f"from {notation.write(first)} to {notation.write(last)}")


def by_period(
    values: pd.Series[float], period: str, label: str, columns: Mapping[str, str], notation: Notation
) -> Table:
    """One line a period, in the order of time.

    `label` is the strftime format that tells periods apart ("%Y"); `columns` maps a heading to a pandas
    aggregation ("mean").
    """
    import pandas as pd

    # sort=False keeps the order of time: April does not come before January.
    names = pd.DatetimeIndex(values.index).strftime(label)
    grouped = values.groupby(names, sort=False).agg(list(columns.values()))
    rows = [(str(name), *map(notation.write, row)) for name, *row in grouped.itertuples()]
    return Table(caption=f"By {period.lower()} ({notation.unit})", columns=(period, *columns), rows=rows)


def _dated(label: str, values: pd.Series[float], at: int, notation: Notation) -> Figure:
    date = values.index[at].strftime(notation.date)
    return Figure(label, notation.write(values.iloc[at]), notation.unit, date)
