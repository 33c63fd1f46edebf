"""Report 3: jobs in one sector of the United States."""

from __future__ import annotations

from collections.abc import Mapping

from . import dataset, parameters, summary
from .catalog import CatalogEntry
from .chart import Chart, Shade, Trace
from .page import Page
from .summary import Notation

SECTORS = {
    "nonfarm": "Total nonfarm",
    "private": "Private sector",
    "construction": "Construction",
    "manufacturing": "Manufacturing",
    "retail_trade": "Retail trade",
    "transportation_and_warehousing": "Transportation and warehousing",
    "information": "Information",
    "financial_activities": "Financial activities",
    "professional_and_business_services": "Professional and business services",
    "education_and_health_services": "Education and health services",
    "leisure_and_hospitality": "Leisure and hospitality",
    "government": "Government",
}
"""Column in the data to label; the order gives the modifier ids, so new ones go to the end."""

FIRST_YEAR, LAST_YEAR = 2006, 2015

RECESSION = Shade("recession", "2007-12-01", "2009-06-01")
"""By the dating of the NBER: peak in December 2007, trough in June 2009."""

ENTRY = CatalogEntry(
    report_id=3,
    name="US employment",
    modifiers=dict(enumerate(SECTORS.values(), start=1)),
    params={
        "from_year": f"a whole number from {FIRST_YEAR} to {LAST_YEAR}; without it {FIRST_YEAR}",
        "to_year": f"a whole number from from_year to {LAST_YEAR}, included; without it {LAST_YEAR}",
    },
)


def build(modifier_id: int, params: Mapping[str, object]) -> Page:
    """The page for one sector; thousands of jobs, seasonally adjusted, one value a month."""
    column, sector = list(SECTORS.items())[modifier_id - 1]
    first = parameters.integer("from_year", params.get("from_year", FIRST_YEAR), FIRST_YEAR, LAST_YEAR)
    last = parameters.integer("to_year", params.get("to_year", LAST_YEAR), first, LAST_YEAR)

    jobs = dataset.load("us_employment", "month").loc[str(first) : str(last), [column]]
    values = jobs[column]
    notation = Notation("thousand", "months", ",.0f", "%b %Y")
    span = f"{first} to {last}" if first != last else str(first)
    return Page(
        title=f"US employment: {sector}",
        subtitle=f"Thousands of jobs, month by month, {span}",
        params={"from_year": str(first), "to_year": str(last)},
        figures=[
            summary.highest(values, notation),
            summary.lowest(values, notation),
            summary.mean(values, notation),
            summary.change(values, notation),
        ],
        chart=Chart(
            description=f"Jobs in the United States, {sector}, {span}",
            unit="thousand jobs",
            traces=[Trace("jobs", values)],
            shade=RECESSION,
        ),
        table=summary.by_period(
            values,
            "Year",
            "%Y",
            {"Mean": "mean", "Lowest": "min", "Highest": "max", "December": "last"},
            notation,
        ),
        source="Source: Current Employment Statistics, U.S. Bureau of Labor Statistics (public domain), "
        "seasonally adjusted; the copy in vega_datasets. Recession as dated by the NBER.",
        data=jobs.reset_index().rename(columns={column: f"{column}_thousands"}),
    )
