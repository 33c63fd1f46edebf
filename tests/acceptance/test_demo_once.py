"""`run.py demo --once`: from nothing to finished reports, and nothing left running."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from project.demo_reports import ONCE
from tests.acceptance.conftest import StartDemo
from tests.acceptance.demos import processes_on, the_line
from tools.runner.demo import CELERY_WORKERS

pytestmark = pytest.mark.timeout(900)  # nine reports take long on a busy machine
REPORT_LINE = re.compile(r"^(?P<title>\S.*?)\s{2,}(?P<status>\w+) +(?P<seconds>[\d.]+) s  (?P<url>http://\S+)$", re.M)


@pytest.mark.parametrize("pattern", [None, "asset"])
def test_once_makes_every_report_and_leaves_no_process(start_demo: StartDemo, folder: Path, pattern: str | None):
    """Also on the data of the one before, from which it takes the firings over; `tests/long` has the other patterns."""
    make_once(start_demo, folder, pattern)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_once_makes_every_report_with_celery(start_demo: StartDemo, folder: Path):
    """By two workers, of which nothing is left."""
    make_once(start_demo, folder, None, "--engine", "celery")
    logs = [folder / "once" / "logs" / f"celery-{name}.log" for name in CELERY_WORKERS]
    assert sum(log.read_text().count("execute_job[") for log in logs) > 0


def test_without_redis_the_demo_with_celery_names_its_package(start_demo: StartDemo, folder: Path):
    demo = start_demo(folder / "none", "--engine", "celery", PATH=str(folder))
    assert demo.ended(120) == 1
    assert the_line(demo.err) == (
        "error: redis-server is not installed, which --engine celery needs; on Debian: apt-get install redis-server"
    )


def make_once(start_demo: StartDemo, folder: Path, pattern: str | None, *options: str) -> None:
    """Whoever fires, all reports are made."""
    demo = start_demo(folder / "once", "--once", *([] if pattern is None else ["--pattern", pattern]), *options)

    assert demo.ended(800) == 0, demo.out + demo.err
    assert demo.err == ""
    by_schedules = len(ONCE) if pattern in ("cron", "asset") else 1
    asked = f"{len(ONCE)} reports by the pattern {pattern or 'queue'}, {by_schedules} of them by a schedule due at "
    assert asked in demo.out
    assert demo.out.endswith(f"\n{len(ONCE)} of {len(ONCE)} reports succeeded\n")
    lines = [match.groupdict() for match in REPORT_LINE.finditer(demo.out)]
    assert [line["status"] for line in lines] == ["succeeded"] * len(ONCE)
    assert len({line["title"] for line in lines}) == len(ONCE)
    for line in lines:
        _assert_artifacts_are_valid(demo.data, line["url"], f"{demo.web}/artifacts/")
    _assert_everything_was_told(demo.out, demo.data, demo.web, pattern)
    assert processes_on(demo.data) == {}


def _assert_everything_was_told(out: str, data: Path, web: str, pattern: str | None) -> None:
    """A mail, the webhooks and the metrics, each with a line that says where it is."""
    (mail,) = re.findall(r"^Alert by mail: +“(.+)” is in (.+)$", out, re.M)
    assert Path(mail[1]).parent == data / "mail"
    message = Path(mail[1]).read_text()
    assert mail[0] in message
    assert "To: desk@example.com" in message
    if pattern == "polling":
        assert "Subject: [reportqueue] Test of Failed reports" in message
    else:
        assert "A report failed for good" in message
        assert "Seattle weather has no modifier 1899" in message
    (webhooks,) = re.findall(r"^Webhooks: +(\d+) reports that succeeded are in (.+), each with a valid", out, re.M)
    assert (int(webhooks[0]), Path(webhooks[1])) == (len(ONCE), data / "logs" / "webhooks.jsonl")
    events = [json.loads(line) for line in Path(webhooks[1]).read_text().splitlines()]
    assert len({one["data"]["queue_id"] for one in events if one["type"] == "report.succeeded"}) >= len(ONCE)
    if pattern != "polling":
        assert "report.failed" in {one["type"] for one in events}
    (metrics,) = re.findall(
        r"^Metrics: +(\d+) values, reportqueue_failed_last_hour_rows is (\d+), at (\S+)$", out, re.M
    )
    assert (int(metrics[0]) >= 12, int(metrics[1]) >= (pattern != "polling")) == (True, True)
    assert metrics[2] == f"{web}/metrics"


def _assert_artifacts_are_valid(data: Path, url: str, start: str) -> None:
    assert url.startswith(start)
    place, name = url.removeprefix(start).rsplit("/", 1)
    assert name == "report.html"
    page = _Page()
    page.feed((data / "artifacts" / place / "report.html").read_text())
    page.close()
    assert page.open == []
    assert {"html", "h1", "svg"} <= page.seen
    assert "script" not in page.seen
    with (data / "artifacts" / place / "report.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}


class _Page(HTMLParser):
    """Which elements a page has, and whether each is closed where it should be."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "col"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without its start"
        assert self.open.pop() == tag
