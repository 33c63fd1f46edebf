"""What open live pages cost: the CPU of the web app and of PostgreSQL with so many pages, and without any.

Needs a server in DATABASE_URL on which it may make databases; `run.py bench live` provides it. Exits 0 only if pages on
which nothing changes stay below the goal.

A page here is a thread that asks as `live.js` does, after the same times: `POLL` and so on have their sources there.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

import django

from project.environment import BASE_DIR
from tools.benchmarks import cost_of, figures, history_rows, usage
from tools.benchmarks.goals import judge
from tools.benchmarks.installation import FOLDER, Installation
from tools.runner.arguments import whole_number
from tools.runner.stack import HOST

PAGES = 50
GOAL = 5.0
"""The goal: per cent of a core for all pages together, while nothing changes."""
SECONDS = 60.0
OPEN_SECONDS = 30.0
SETTLE_SECONDS = 20.0
EVERY_SECONDS = 5.0
"""In the busy part a report is made so often."""
ROWS = 10_000
LIST = "/admin/reportqueue/reportqueue/?processed=yes"
FETCHED = {"X-Requested-With": "reportqueue-live"}
"""What the script sends with all that it fetches."""
SCRIPT = (BASE_DIR / "reportqueue" / "static" / "reportqueue" / "live.js").read_text()


def constant(name: str) -> float:
    """A time of the script, in seconds; a number without a unit as it is."""
    found = re.search(rf"const {name} = ([0-9]+);", SCRIPT)
    assert found, name
    return int(found[1]) / (1 if name == "REST" else 1000)


class Page(threading.Thread):
    """A page that somebody has open and looks at."""

    def __init__(self, port: int, cookie: str, *, stream: bool, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._cookie, self._streams, self._ended = port, cookie, stream, ended
        self._changed = threading.Event()
        self.opened = threading.Event()
        """Set when the page has been loaded for the first time."""
        self.asked = self.loaded = self.failed = 0

    def run(self) -> None:
        """Load the page, and refresh it until all pages end."""
        marker = self._load({})  # as a person opens it
        self.opened.set()
        if self._streams:
            threading.Thread(target=self._listen, daemon=True).start()
        loaded = time.monotonic()
        wait = constant("POLL") * random.random()  # pages are opened at any time
        behind = False
        while not self._ended.is_set():
            self._changed.wait(wait)
            if self._ended.is_set():
                return
            began, rest, changed = time.monotonic(), 0.0, True
            try:
                behind = behind or self._changed.is_set()
                self._changed.clear()
                if began - loaded < constant("WHOLE"):
                    self.asked += 1
                    since = f"since={quote(marker)}{'&behind' if behind else ''}"
                    told = json.loads(self._get(f"/admin/reportqueue/reportqueue/changed/?{since}"))
                    rest, behind = told["wait"], behind or told["changed"]
                    changed = behind and not rest
                if changed:
                    behind = False
                    marker, loaded = self._load(), time.monotonic()
            except (OSError, HTTPException):
                self.failed += 1
            took = time.monotonic() - began
            least = max(constant("LEAST"), constant("REST") * took, rest)
            self._ended.wait(least)
            wait = max(0.0, constant("POLL") - least) if not behind else 0.0

    def end(self) -> None:
        """Wait until the page is closed."""
        self._changed.set()
        self.join()

    def _load(self, headers: dict[str, str] = FETCHED) -> str:
        self.loaded += 1
        found = re.search(r'data-marker="([^"]+)"', self._get(LIST, headers))
        if not found:
            raise HTTPException("The page is not live.")
        return found[1]

    def _get(self, address: str, headers: dict[str, str] = FETCHED) -> str:
        connection = self._ask(address, 30, headers)
        try:
            answer = connection.getresponse()
            if answer.status != 200:
                raise HTTPException(f"{address}: {answer.status}")
            return answer.read().decode()
        finally:
            connection.close()

    def _ask(self, address: str, timeout: float, headers: dict[str, str] = FETCHED) -> HTTPConnection:
        connection = HTTPConnection(HOST, self._port, timeout=timeout)
        connection.request("GET", address, headers={"Cookie": self._cookie, **headers})
        return connection

    def _listen(self) -> None:
        connection = self._ask("/admin/reportqueue/reportqueue/events/", 60)
        try:
            answer = connection.getresponse()
            while answer.status == 200 and not self._ended.is_set() and (line := answer.readline()):
                if line.startswith(b"event: changed"):
                    self._changed.set()
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()


def main() -> int:
    """Measure without pages and with pages, while nothing happens and while reports are made; 0 if the goal holds."""
    chosen = _arguments()
    django.setup()
    print(f"load before: {figures.load()}", flush=True)
    found: dict[bool, list[float]] = {}
    # Sessions are signed with the key.
    key = os.environ["SECRET_KEY"]
    with Installation("live", code=cost_of.CODE, warm_up=False, SECRET_KEY=key) as installation:
        _fill()
        cookie = _cookie()
        for busy in (False, True):
            found[busy] = [_measure(installation, cookie, chosen.pages, busy=busy) for _ in range(chosen.rounds)]
    print(f"load after: {figures.load()}", flush=True)
    still, busy_ones = (statistics.median(shares) for shares in found.values())
    print(f"while a report is made every {EVERY_SECONDS:g} s: {busy_ones:.1f} % of a core")
    return judge({f"{chosen.pages} live pages, nothing changes: at most {GOAL:g} % of a core": (still, still <= GOAL)})


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench live", description="What open live pages cost.", allow_abbrev=False)
    parser.add_argument("--pages", type=whole_number(1, 500), default=PAGES, help=f"open pages (default {PAGES})")
    parser.add_argument("--rounds", type=whole_number(1, 100), default=3, help="measurements of each (default 3)")
    return parser.parse_args()


def _fill() -> None:
    """A history for the pages, and nothing that happens by itself."""
    from reportqueue.models import ReportQueue, ReportSchedule
    from reportqueue.states import UNFINISHED

    history_rows.load(ROWS)
    ReportQueue.objects.filter(status__in=UNFINISHED).delete()
    ReportSchedule.objects.update(enabled=False)


def _cookie() -> str:
    """The cookie of a person who is logged in and may see everything."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(SERVER_NAME=HOST)
    client.force_login(User.objects.create_superuser("viewer"))
    name = settings.SESSION_COOKIE_NAME
    return f"{name}={client.cookies[name].value}"


def _measure(installation: Installation, cookie: str, number: int, *, busy: bool) -> float:
    """What the pages add, in per cent of a core."""
    from reportqueue.conf import conf

    alone = _used(installation, busy=busy)
    ended = threading.Event()
    pages = [Page(installation.port, cookie, stream=n < conf().max_streams, ended=ended) for n in range(number)]
    for page in pages:  # one after the other: nobody opens all of them at once
        page.start()
        if not page.opened.wait(OPEN_SECONDS):
            raise RuntimeError("A page could not be loaded.")
    installation.wait(SETTLE_SECONDS)
    before = Counter(_counts(pages))
    with_pages = _used(installation, busy=busy)
    did = Counter(_counts(pages))
    did.subtract(before)
    ended.set()
    for page in pages:
        page.end()
    print(
        f"{'busy' if busy else 'still'}: {alone:.1f} % of a core without pages, {with_pages:.1f} % with {number}; they "
        f"asked {did['asked']} times, loaded {did['loaded']} pages, {did['failed']} times without an answer",
        flush=True,
    )
    return with_pages - alone


def _counts(pages: list[Page]) -> dict[str, int]:
    return {name: sum(getattr(page, name) for page in pages) for name in ("asked", "loaded", "failed")}


def _used(installation: Installation, *, busy: bool) -> float:
    """What the web app and PostgreSQL use meanwhile, in per cent of a core."""
    cluster = Path(os.environ[FOLDER]) / "postgres"
    before, began = usage.cpu_seconds(installation.data, cluster), time.monotonic()
    while (left := began + SECONDS - time.monotonic()) > 0:
        if busy:
            _make_a_report()
        installation.wait(min(left, EVERY_SECONDS))
    used = usage.cpu_seconds(installation.data, cluster) - before
    return (used["web app"] + used[usage.POSTGRES]) / (time.monotonic() - began) * 100


def _make_a_report() -> None:
    from reportqueue import queue

    queue.enqueue(report_id=1, modifier_id=1)


if __name__ == "__main__":
    sys.exit(main())
