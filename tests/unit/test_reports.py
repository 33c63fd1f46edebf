"""The demo's reports: what a page and a CSV must be for everybody who stores, shows or mails them."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from project import reports
from project.reports import InvalidParams, Report, UnknownReport, render
from project.reports.chart import Chart, Trace
from project.reports.page import Figure, Page, Table

WEATHER, STOCKS, EMPLOYMENT = 1, 2, 3

VARIANTS = [(entry.report_id, modifier_id) for entry in reports.catalog() for modifier_id in entry.modifiers]

PARAMS: list[tuple[int, int, str, object]] = [
    (WEATHER, 2013, "measure", "precipitation"),
    (WEATHER, 2013, "months", [6, 8]),
    (STOCKS, 1, "since", "2005-01-01"),
    (STOCKS, 1, "moving_average", 6),
    (EMPLOYMENT, 1, "from_year", 2010),
    (EMPLOYMENT, 1, "to_year", 2010),
]


def rows_of(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(report.csv), strict=True))


def svg_of(report: Report) -> str:
    match = re.search(r"<svg.*</svg>", report.html, re.DOTALL)
    assert match
    return match.group()


class Document(HTMLParser):
    """Collects what a browser would fetch, and checks that every element is closed."""

    LOADS = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}
    VOID = {"meta", "link", "img", "br", "hr", "input"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in self.LOADS:
                self.addresses.append(value or "")
            assert not name.startswith("on")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(("report_id", "modifier_id"), VARIANTS)
def test_every_variant_in_the_catalog_renders_a_page_and_its_csv(report_id: int, modifier_id: int) -> None:
    report = render(report_id, modifier_id, {})
    document = Document(report.html)
    assert report.html.startswith("<!DOCTYPE html>")
    assert f"<h1>{report.title}</h1>" in report.html
    assert not document.open
    assert report.html.count("<svg") == 1
    rows = rows_of(report)
    assert len(rows) == report.rows > 1
    assert report.csv.endswith("\n")
    assert all(None not in row and None not in row.values() for row in rows)


@pytest.mark.parametrize(("report_id", "modifier_id"), VARIANTS)
def test_a_page_loads_nothing_from_elsewhere(report_id: int, modifier_id: int) -> None:
    html = render(report_id, modifier_id, {}).html
    document = Document(html)
    assert "script" not in document.tags
    assert "link" not in document.tags
    assert "img" not in document.tags
    # What remains are references inside the document: the chart's markers and clip paths.
    assert all(address.startswith("#") for address in document.addresses)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", html))
    assert "@import" not in html
    assert "default-src 'none'" in html
    # Names of XML namespaces are the only addresses, and nobody fetches those.
    assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", html))


def test_titles_differ_within_the_catalog() -> None:
    titles = [render(report_id, modifier_id, {}).title for report_id, modifier_id in VARIANTS]
    assert len(set(titles)) == len(titles)
    assert titles[0] == "Seattle weather 2012"


@pytest.mark.parametrize(("report_id", "modifier_id", "name", "value"), PARAMS)
def test_params_change_the_chart_and_the_csv(report_id: int, modifier_id: int, name: str, value: object) -> None:
    plain, asked = render(report_id, modifier_id, {}), render(report_id, modifier_id, {name: value})
    assert svg_of(plain) != svg_of(asked)
    assert plain.csv != asked.csv
    assert f"<dt>{name}</dt>" in asked.html


def test_every_param_in_the_catalog_is_seen_to_change_something() -> None:
    tried = {(report_id, name) for report_id, _, name, _ in PARAMS}
    assert tried == {(entry.report_id, name) for entry in reports.catalog() for name in entry.params}


def test_modifiers_show_their_own_data() -> None:
    first = {label: rows_of(render(STOCKS, number, {}))[0] for number, label in stock_symbols().items()}
    assert first["MSFT"]["price"] == "39.81"
    assert first["GOOG"]["date"] == "2004-08-01"
    assert rows_of(render(EMPLOYMENT, 3, {}))[0] == {"month": "2006-01-01", "construction_thousands": "7601"}
    assert rows_of(render(WEATHER, 2012, {}))[1]["temp_max"] == "10.6"


def test_stock_symbols_are_those_in_the_data() -> None:
    from vega_datasets import data

    assert list(stock_symbols().values()) == list(data.stocks()["symbol"].unique())


def stock_symbols() -> dict[int, str]:
    return next(entry for entry in reports.catalog() if entry.report_id == STOCKS).modifiers


def test_weather_keeps_to_its_months() -> None:
    report = render(WEATHER, 2012, {"months": [2, 4], "measure": "wind"})
    rows = rows_of(report)
    assert (rows[0]["date"], rows[-1]["date"], report.rows) == ("2012-02-01", "2012-04-30", 90)
    assert "temp_max" not in rows[0]
    assert re.findall(r'<th scope="row">(\w+)</th>', report.html) == ["February", "March", "April"]


def test_precipitation_adds_up() -> None:
    report = render(WEATHER, 2014, {"measure": "precipitation"})
    total = sum(float(row["precipitation"]) for row in rows_of(report))
    assert f"<dt>Total</dt><dd>{total:,.1f} <small>mm</small>" in report.html


def test_key_figures_are_those_of_the_csv() -> None:
    report = render(STOCKS, 2, {"since": "2006-01-01"})
    prices = [float(row["price"]) for row in rows_of(report)]
    assert f"<dt>Highest</dt><dd>{max(prices):.2f} " in report.html
    assert f"<dt>Lowest</dt><dd>{min(prices):.2f} " in report.html
    assert f"<dt>Mean</dt><dd>{sum(prices) / len(prices):.2f} " in report.html
    assert f"<dt>Change</dt><dd>{prices[-1] / prices[0] * 100 - 100:+.1f} " in report.html


def test_moving_average_knows_the_months_before_since() -> None:
    whole = render(STOCKS, 5, {"moving_average": 3})
    cut = render(STOCKS, 5, {"moving_average": 3, "since": "2008-01-15"})
    rows = rows_of(cut)
    assert rows[0]["date"] == "2008-02-01"
    assert rows == rows_of(whole)[-len(rows) :]
    last = [float(row["price"]) for row in rows[-3:]]
    assert float(rows[-1]["mean_3_months"]) == pytest.approx(sum(last) / 3, abs=0.006)
    assert [row["mean_3_months"] == "" for row in rows_of(whole)[:3]] == [True, True, False]


def test_employment_includes_both_years() -> None:
    rows = rows_of(render(EMPLOYMENT, 4, {"from_year": 2009, "to_year": 2010}))
    assert (rows[0]["month"], rows[-1]["month"]) == ("2009-01-01", "2010-12-01")


def test_recession_is_shaded_only_where_the_chart_reaches_it() -> None:
    assert "recession" in svg_of(render(EMPLOYMENT, 1, {}))
    assert "recession" not in svg_of(render(EMPLOYMENT, 1, {"from_year": 2011}))


@pytest.mark.parametrize("report_id", [0, 4, -1, "<b>"])
def test_unknown_report_lists_the_known_ones(report_id: int) -> None:
    with pytest.raises(UnknownReport, match=r"no report .*1 \(Seattle weather\), 2 \(Stock prices\), 3 \(US"):
        render(report_id, 1, {})


@pytest.mark.parametrize(
    ("report_id", "modifier_id", "known"),
    [
        (WEATHER, 2016, r"2012, 2013, 2014, 2015"),
        (STOCKS, 0, r"1 \(MSFT\), 2 \(AMZN\)"),
        (EMPLOYMENT, 99, "Govern"),
    ],
)
def test_unknown_modifier_lists_the_known_ones(report_id: int, modifier_id: int, known: str) -> None:
    with pytest.raises(UnknownReport, match=rf"modifier {modifier_id}; known: .*{known}"):
        render(report_id, modifier_id, {})


@pytest.mark.parametrize(
    ("report_id", "modifier_id", "params", "message"),
    [
        (WEATHER, 2013, {"sort": "x"}, "unknown parameter 'sort'; accepted: measure, months"),
        (WEATHER, 2013, {"since": "2013-01-01"}, "since"),
        (WEATHER, 2013, {"measure": "snow"}, "measure must be one of temp_max, temp_min, .*'snow'"),
        (WEATHER, 2013, {"measure": ["wind"]}, "measure"),
        (WEATHER, 2013, {"measure": None}, "measure"),
        (WEATHER, 2013, {"measure": "<script>alert(1)</script>"}, "measure"),
        (WEATHER, 2013, {"<script>": 1}, "unknown parameter"),
        (WEATHER, 2013, {"months": [0, 3]}, "months must be two whole numbers .* from 1 to 12"),
        (WEATHER, 2013, {"months": [3, 13]}, "months"),
        (WEATHER, 2013, {"months": [9, 3]}, "months"),
        (WEATHER, 2013, {"months": [1, 2, 3]}, "months"),
        (WEATHER, 2013, {"months": "12"}, "months"),
        (WEATHER, 2013, {"months": 3}, "months"),
        (WEATHER, 2013, {"months": [1.0, 2]}, "months"),
        (WEATHER, 2013, {"months": [True, 2]}, "months"),
        (STOCKS, 1, {"since": "yesterday"}, "since must be a date YYYY-MM-DD"),
        (STOCKS, 1, {"since": "2005-13-01"}, "since"),
        (STOCKS, 1, {"since": "20050101"}, "since"),
        (STOCKS, 1, {"since": "2010-03-01"}, "since must be .* at the latest 2010-02-01"),
        (STOCKS, 1, {"since": 2005}, "since"),
        (STOCKS, 1, {"moving_average": 1}, "moving_average must be a whole number from 2 to 24; got 1"),
        (STOCKS, 1, {"moving_average": 25}, "moving_average"),
        (STOCKS, 1, {"moving_average": "6"}, "moving_average"),
        (STOCKS, 1, {"moving_average": True}, "moving_average"),
        (EMPLOYMENT, 1, {"from_year": 2005}, "from_year must be a whole number from 2006 to 2015"),
        (EMPLOYMENT, 1, {"to_year": 2016}, "to_year"),
        (EMPLOYMENT, 1, {"from_year": 2012, "to_year": 2011}, "to_year must be a whole number from 2012"),
    ],
)
def test_bad_params_are_refused_by_name(
    report_id: int, modifier_id: int, params: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidParams, match=message):
        render(report_id, modifier_id, params)


def test_a_refusal_stays_short_whatever_was_sent() -> None:
    with pytest.raises(InvalidParams) as refusal:
        render(WEATHER, 2013, {"measure": "x" * 100_000})
    assert len(str(refusal.value)) < 300


def test_whatever_a_page_is_given_is_escaped() -> None:
    def hostile(place: str) -> str:
        return f'"><script>{place}</script>&'

    series = pd.Series([1.0, 2.0], index=pd.to_datetime(["2020-01-01", "2020-01-02"]))
    html = Page(
        title=hostile("title"),
        subtitle=hostile("subtitle"),
        params={hostile("name"): hostile("param")},
        figures=[Figure(hostile("label"), hostile("value"), hostile("unit"), hostile("note"))],
        chart=Chart(hostile("description"), hostile("axis"), [Trace(hostile(x), series) for x in ("one", "two")]),
        table=Table(hostile("caption"), [hostile("column")], [[hostile("head"), hostile("cell")]]),
        source=hostile("source"),
        data=pd.DataFrame({hostile("data"): [1]}),
    ).html()
    assert "<script" not in html
    document = Document(html)
    assert "script" not in document.tags
    assert not document.open
    places = "title subtitle name param label value unit note description axis one two caption column head cell"
    for place in [*places.split(), "source", "data"]:
        assert f"script&gt;{place}&lt;/script&gt;&amp;" in html


def test_same_input_gives_same_bytes_in_another_process() -> None:
    # Another process has other hash seeds and another moment: both have a way into SVG files.
    code = (
        "import sys; from project.reports import render;"
        "report = render(1, 2014, {'measure': 'precipitation'});"
        "sys.stdout.buffer.write((report.title + report.html + report.csv).encode())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.decode()
    for _ in range(2):
        report = render(1, 2014, {"measure": "precipitation"})
        assert report.title + report.html + report.csv == elsewhere


def test_importing_and_listing_load_nothing_heavy() -> None:
    code = (
        "import sys; import project.reports; project.reports.catalog();"
        "heavy = {'pandas', 'numpy', 'matplotlib', 'vega_datasets', 'django', 'dagster', 'reportqueue'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == []


def test_drawing_leaves_no_trace_in_the_process() -> None:
    # In a process of its own: here, other tests have drawn already.
    code = (
        "import sys, matplotlib as mpl; from project.reports import render;"
        # Reading "backend" would choose one, and import pyplot for it.
        "settings = lambda: {name: mpl.rcParams[name] for name in mpl.rcParams if name != 'backend'};"
        "before = settings(); render(2, 1, {});"
        "print(settings() == before, 'matplotlib.pyplot' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert answer.split() == ["True", "False"]


def test_data_that_needs_the_network_is_refused() -> None:
    from project.reports import dataset

    with pytest.raises(RuntimeError, match="birdstrikes"):
        dataset.load("birdstrikes", "date")
