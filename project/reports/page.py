"""The page around a report: lean HTML that stands alone, at any width and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from .chart import Chart

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Figure:
    """One number in large type, with its unit and a few words of context."""

    label: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True)
class Table:
    """A short table; the first column is text, the others are numbers already written out."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """A report's content as plain text and data; only `html` turns it into markup."""

    title: str
    subtitle: str
    params: dict[str, str]
    """The params in use, defaults included: name to value in words."""
    figures: Sequence[Figure]
    chart: Chart
    table: Table
    source: str
    data: pd.DataFrame
    """The data of the CSV; the page only shows how much that is."""

    def html(self) -> str:
        """The page as a complete document."""
        params = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in self.params.items()
        )
        figures = "".join(map(_figure, self.figures))
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(self.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{escape(self.title)}</h1>
<p>{escape(self.subtitle)}</p>
<dl class="params">{params}</dl>
</header>
<dl class="figures">{figures}</dl>
<figure>{self.chart.svg()}</figure>
{_table(self.table)}
<footer>
<p>{escape(self.source)}</p>
<p>The CSV has {len(self.data):,} rows: {escape(", ".join(map(str, self.data.columns)))}.</p>
</footer>
</main>
</body>
</html>
"""


def _figure(figure: Figure) -> str:
    return (
        f"<div><dt>{escape(figure.label)}</dt>"
        f"<dd>{escape(figure.value)} <small>{escape(figure.unit)}</small></dd>"
        f"<dd>{escape(figure.note)}</dd></div>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in table.rows
    )
    return (
        f"<table>\n<caption>{escape(table.caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )


# The page promises to load nothing; with this the browser holds it to that, whatever ends up in the markup.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #667085; --rule: #e3e6ea; --accent: #0f6a73; }
* { box-sizing: border-box; margin: 0; }
body { background: #f6f7f8; color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue",
  "Liberation Sans", Arial, sans-serif; font-variant-numeric: tabular-nums; }
main { background: #fff; max-width: 56rem; margin: 2rem auto; padding: 2.5rem 3rem 2rem;
  border-top: 4px solid var(--accent); box-shadow: 0 1px 3px #1c243022; }
h1 { font: 600 2.1rem/1.2 Charter, "Iowan Old Style", Georgia, "Liberation Serif", serif; }
header p { color: var(--soft); font-size: 1.05rem; margin-top: .25rem; }
.params { display: flex; flex-wrap: wrap; gap: .4rem; margin-top: .9rem; font-size: .85rem; }
.params div { display: flex; gap: .45em; padding: .1rem .6rem; background: #eef4f4; border-radius: 1rem; }
.params dt { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 1rem;
  margin: 1.8rem 0 1.2rem; padding: 1rem 0; border-block: 1px solid var(--rule); }
.figures dt, .figures dd:last-child { color: var(--soft); font-size: .85rem; }
.figures dd:nth-child(2) { font-size: 1.75rem; line-height: 1.25; font-weight: 600; }
.figures small { font-size: .9rem; font-weight: 400; color: var(--soft); }
figure { overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 34rem; height: auto; }
figure svg text { font-family: inherit !important; }
table { width: 100%; border-collapse: collapse; margin-top: 1.4rem; font-size: .92rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--rule); font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); font-size: .85rem; border-color: #b8c0ca; }
footer { margin-top: 1.6rem; color: var(--soft); font-size: .82rem; }
@media (max-width: 40rem) { main { margin: 0; padding: 1.5rem 1.1rem; } }
@media print { body { background: none; } main { margin: 0; padding: 0; box-shadow: none; border: 0; }
  figure, tr { break-inside: avoid; } }
"""
