"""Report 2: the monthly price of one stock."""

from __future__ import annotations

from collections.abc import Mapping

from . import dataset, parameters, summary
from .catalog import CatalogEntry
from .chart import Chart, Trace
from .page import Page
from .summary import Notation

COMPANIES = {
    "MSFT": "Microsoft",
    "AMZN": "Amazon",
    "IBM": "International Business Machines",
    "GOOG": "Google",
    "AAPL": "Apple",
}

ENTRY = CatalogEntry(
    report_id=2,
    name="Stock prices",
    modifiers=dict(enumerate(COMPANIES, start=1)),
    params={
        "since": "a date YYYY-MM-DD, the first to show; without it all there is, 2000 to March 2010",
        "moving_average": "months to average, a whole number from 2 to 24; without it no average",
    },
)


def build(modifier_id: int, params: Mapping[str, object]) -> Page:
    """The page for one symbol; prices in USD, one a month."""
    symbol = ENTRY.modifiers[modifier_id]
    stocks = dataset.load("stocks", "date")
    prices = stocks.loc[stocks["symbol"] == symbol, ["price"]]
    in_use = {"since": "the beginning", "moving_average": "none"}

    averages = []
    if "moving_average" in params:
        months = parameters.integer("moving_average", params["moving_average"], 2, 24)
        column = f"mean_{months}_months"
        # Averaged before the cut below, so that the line begins where the price does.
        prices[column] = prices["price"].rolling(months).mean().round(2)
        averages = [(f"mean of {months} months", column)]
        in_use["moving_average"] = f"{months} months"
    if "since" in params:
        # Two prices at least: a single one is no line and has no change.
        since = parameters.iso_date("since", params["since"], prices.index[-2].date())
        prices = prices.loc[str(since) :]
        in_use["since"] = str(since)

    values = prices["price"]
    notation = Notation("USD", "months", ",.2f", "%b %Y")
    span = f"{values.index[0]:%B %Y} to {values.index[-1]:%B %Y}"
    return Page(
        title=f"{symbol} stock price",
        subtitle=f"{COMPANIES[symbol]}, month by month, {span}",
        params=in_use,
        figures=[
            summary.highest(values, notation),
            summary.lowest(values, notation),
            summary.mean(values, notation),
            summary.change(values, notation),
        ],
        chart=Chart(
            description=f"Price of one {symbol} share, {span}",
            unit=notation.unit,
            traces=[
                Trace("price", values),
                *(Trace(label, prices[column], "average") for label, column in averages),
            ],
        ),
        table=summary.by_period(
            values,
            "Year",
            "%Y",
            {"First": "first", "Lowest": "min", "Highest": "max", "Last": "last"},
            notation,
        ),
        source="Source: monthly closing prices, 2000 to 2010; the copy in vega_datasets.",
        data=prices.reset_index(),
    )
