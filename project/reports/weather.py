"""Report 1: a year of daily weather in Seattle."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass

from . import dataset, parameters, summary
from .catalog import CatalogEntry
from .chart import Chart, Trace
from .page import Figure, Page
from .summary import Notation


@dataclass(frozen=True)
class Measure:
    """One of the measured columns, and which of its days are counted."""

    label: str
    unit: str
    notable: str
    """The counted days, in words."""
    first: float
    last: float = float("inf")
    """A day counts if first <= value <= last."""
    adds_up: bool = False
    """Whether a sum over days means something: rain does, temperatures do not."""


MEASURES = {
    "temp_max": Measure("Daily maximum temperature", "°C", "Days of 25 °C or more", 25),
    "temp_min": Measure("Daily minimum temperature", "°C", "Days with frost", float("-inf"), 0),
    "precipitation": Measure("Daily precipitation", "mm", "Days of 1 mm or more", 1, adds_up=True),
    "wind": Measure("Daily wind speed", "m/s", "Days of 5 m/s or more", 5),
}
AVERAGED_DAYS = 15

ENTRY = CatalogEntry(
    report_id=1,
    name="Seattle weather",
    modifiers={year: str(year) for year in range(2012, 2016)},
    params={
        "measure": f"{' | '.join(MEASURES)}; without it temp_max",
        "months": "[first, last], whole numbers from 1 to 12; without it the whole year",
    },
)


def build(modifier_id: int, params: Mapping[str, object]) -> Page:
    """The page for the year `modifier_id`; temperatures in °C, precipitation in mm, wind in m/s."""
    name = parameters.choice("measure", params.get("measure", "temp_max"), MEASURES)
    first, last = parameters.integer_range("months", params.get("months", [1, 12]), 1, 12)
    measure = MEASURES[name]
    notation = Notation(measure.unit, "days", ",.1f", "%-d %b %Y")

    weather = dataset.load("seattle_weather", "date")
    # Averaged over all the years before the cut, so that January's first days know December's last ones.
    average = weather[name].rolling(AVERAGED_DAYS, center=True, min_periods=8).mean().round(2)
    weather = weather.assign(average=average).loc[f"{modifier_id}-{first:02}" : f"{modifier_id}-{last:02}"]
    values = weather[name]

    months = calendar.month_name[first]
    if last != first:
        months += f" to {calendar.month_name[last]}"
    days = values.between(measure.first, measure.last).sum()
    return Page(
        title=f"Seattle weather {modifier_id}",
        subtitle=f"{measure.label}, {months} {modifier_id}",
        params={"measure": name, "months": months},
        figures=[
            summary.highest(values, notation),
            summary.total(values, notation) if measure.adds_up else summary.lowest(values, notation),
            summary.mean(values, notation),
            Figure(measure.notable, str(days), f"of {len(values)}", f"{days / len(values):.0%} of the days"),
        ],
        chart=Chart(
            f"{measure.label} in Seattle, {months} {modifier_id}",
            measure.unit,
            [
                Trace("each day", values, "bars" if measure.adds_up else "faint"),
                Trace(f"mean of {AVERAGED_DAYS} days", weather["average"], "average"),
            ],
        ),
        table=summary.by_period(
            values,
            "Month",
            "%B",
            {"Mean": "mean"} | ({"Total": "sum"} if measure.adds_up else {"Lowest": "min"}) | {"Highest": "max"},
            notation,
        ),
        source="Source: daily observations at Seattle, NOAA (public domain); the copy in vega_datasets.",
        data=weather.reset_index()[["date", name, "average", "weather"]].rename(
            columns={"average": f"{name}_mean_{AVERAGED_DAYS}_days"}
        ),
    )
