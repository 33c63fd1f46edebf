"""How the admin words durations and lateness, and which addresses it makes links of. No database is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reportqueue.admin import formats
from reportqueue.models import ReportQueue
from reportqueue.states import Outcome, Status

DUE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """An instant relative to the due one."""
    return DUE + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (0.04, "0 s"), (0.44, "0.4 s"), (9.96, "10 s"), (59.9, "59 s"), (60, "1 min")),
        *((125, "2 min 5 s"), (3600, "1 h"), (11_520, "3 h 12 min"), (86_400, "1 d"), (187_200, "2 d 4 h")),
        (-125, "2 min 5 s"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str):
    assert formats.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("now", "fields", "words"),
    [
        (-180, {}, ("due in 3 min", "")),
        (0.5, {}, ("on time", "")),
        (125, {}, ("2 min 5 s late", "")),
        (125, {"available_at": after(150)}, ("2 min 5 s late", "next try in 25 s")),
        (125, {"status": Status.CLAIMED}, ("2 min 5 s late", "")),
        (125, {"status": Status.RUNNING, "started_at": after(5)}, ("5 s late", "running for 2 min")),
        (
            999,
            {"status": Status.SUCCEEDED, "started_at": after(0.2), "finished_at": after(8.2)},
            ("on time", "took 8 s"),
        ),
        (
            999,
            {"status": Status.CANCELLED, "finished_at": after(-120)},
            ("never started", "ended 2 min before it was due"),
        ),
        (999, {"status": Status.SKIPPED, "finished_at": after(60)}, ("never started", "ended 1 min after it was due")),
    ],
)
def test_lateness_says_how_late_and_what_came_of_it(now: float, fields: dict[str, Any], words: tuple[str, str]):
    row = ReportQueue(**({"trigger_time": DUE, "available_at": DUE} | fields))
    assert formats.lateness(row, after(now)) == words


@pytest.mark.parametrize(
    ("fields", "late"),
    [
        ({}, True),
        ({"status": Status.DISPATCHED}, True),
        ({"available_at": after(100)}, False),  # a retry's delay is meant
        ({"status": Status.RUNNING, "started_at": after(90)}, False),
        ({"status": Status.CANCELLED, "finished_at": after(90)}, False),
    ],
)
def test_a_row_stands_out_only_while_somebody_should_act(fields: dict[str, Any], late: bool):
    row = ReportQueue(**({"trigger_time": DUE, "available_at": DUE} | fields))
    assert formats.is_late(row, after(100)) is late
    assert not formats.is_late(row, after(30))


@pytest.mark.parametrize(
    "address", ["/artifacts/1/a.html", "/", "https://example.com/x?y#z", "HTTP://example.com", "http://[::1]/"]
)
def test_addresses_that_become_links(address: str):
    assert formats.is_safe_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", " //evil"),
        *("javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "vbscript:x"),
        *("https:///evil", "https:evil.example", "http://", "http://[::1", "ftp://example.com", "file:///etc/passwd"),
        *("report.html", "", "\x00", "/a b", None, 7, ["/a"], {"a": "/a"}),
    ],
)
def test_addresses_that_do_not(address: object):
    assert not formats.is_safe_address(address)


def test_names_of_artifacts_are_text_and_few_are_shown():
    links = formats.artifact_links({"<b>": "/a", **{f"n{n}": "/b" for n in range(9)}})
    assert "&lt;b&gt;" in links
    assert links.count("<a ") == formats.MAX_LINKS
    assert links.endswith("+5")


def test_every_status_and_outcome_has_its_sign():
    assert {*Status, *Outcome} <= formats.SYMBOLS.keys()
