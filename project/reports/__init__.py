"""The demo's reports: each is one HTML page and one CSV, made from data that ships with vega_datasets.

    render(1, 2013, {"measure": "wind"}).html

Importing this package is cheap: pandas and matplotlib are loaded by the first `render`. Every run of a report
starts in a fresh process, and listing the catalog must not cost a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import employment, stocks, weather
from .catalog import CatalogEntry
from .errors import InvalidParams, UnknownReport
from .parameters import refuse_unknown

__all__ = ["CatalogEntry", "InvalidParams", "Report", "UnknownReport", "catalog", "render"]

_REPORTS = {module.ENTRY.report_id: module for module in (weather, stocks, employment)}


@dataclass(frozen=True)
class Report:
    """A finished report: the same data to read and to compute with.

    The same ids and params give the same bytes on every call: no clock and no network has a part in it.
    """

    title: str
    """Plain text, not escaped: "Seattle weather 2013"."""
    html: str
    """A complete page that loads nothing from elsewhere: styles inside, the chart as inline SVG."""
    csv: str
    """A header line, then `rows` lines, each ended by a newline."""
    rows: int


def render(report_id: int, modifier_id: int, params: Mapping[str, object]) -> Report:
    """Make one report.

    `params` are JSON values, by the names in the report's catalog entry; what is left out has a default.
    Raises UnknownReport for ids outside the catalog, InvalidParams for a name or value that is not accepted.
    """
    try:
        report = _REPORTS[report_id]
    except KeyError:
        known = ", ".join(f"{entry.report_id} ({entry.name})" for entry in catalog())
        raise UnknownReport(f"there is no report {report_id!r}; known: {known}") from None
    entry = report.ENTRY
    if modifier_id not in entry.modifiers:
        known = ", ".join(
            str(number) if str(number) == label else f"{number} ({label})" for number, label in entry.modifiers.items()
        )
        raise UnknownReport(f"{entry.name} has no modifier {modifier_id!r}; known: {known}")
    refuse_unknown(params, entry.params)

    page = report.build(modifier_id, params)
    return Report(
        title=page.title,
        html=page.html(),
        csv=page.data.to_csv(index=False, lineterminator="\n"),
        rows=len(page.data),
    )


def catalog() -> list[CatalogEntry]:
    """Every report that `render` knows, in the order of their ids."""
    return [module.ENTRY for _, module in sorted(_REPORTS.items())]
