"""Pictures of each page of the admin, on a day of made-up past: for the docs, and to look at all of them.

Needs an empty database in DATABASE_URL, which `run.py screenshots` provides, Debian's chromium, and playwright.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

SIZES = {"wide": (1280, 900), "narrow": (400, 900)}
SCHEMES = ("light", "dark")
START_SECONDS = 60
FOR_DOCS = {"overview": "overview.png"}
"""The pictures of the docs, which are wide and light."""


def main() -> int:
    """Write the pictures; returns 0 if every page could be shown."""
    parser = ArgumentParser(prog="run.py screenshots", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=Path(".data/screenshots"), help="default: .data/screenshots")
    parser.add_argument("--docs", action="store_true", help="write the pictures of the docs, too")
    parser.add_argument("--zone", default="", help="the pages of a person who has chosen this time zone")
    chosen = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: Chromium is not installed; on Debian: apt-get install chromium", file=sys.stderr)
        return 1
    django.setup()
    password = _fill()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with _web_app() as address:
        return _take(chromium, address, password, chosen.folder, docs=chosen.docs, zone=chosen.zone)


def _fill() -> str:
    """Make the demo's users, schedules and past; the password of `admin`."""
    from django.core.management import call_command

    from reportqueue import bulk, credentials, queue
    from reportqueue.models import ReportSchedule

    password = os.environ["ADMIN_PASSWORD"] = credentials.new_key()
    os.environ["REPORTQUEUE_TOKEN"] = credentials.new_key()
    call_command("migrate", verbosity=0)
    call_command("load_demo", verbosity=0)
    call_command("fill_history", verbosity=0)
    queue.pause(route="finance", by="anna", note="wrong totals")
    bulk.start("requeue", {"status": ["failed"], "report_id": 3}, by="anna", reason="the source is back")
    while bulk.step(1).left:
        pass
    ReportSchedule.objects.order_by("pk")[0].save()
    return password


def _pages() -> dict[str, str]:
    """The address of each page, by its name."""
    from reportqueue.models import BulkAction, ReportQueue, ReportSchedule
    from reportqueue.states import Status

    failed = ReportQueue.objects.filter(status=Status.FAILED).latest("id").pk
    done = ReportQueue.objects.filter(status=Status.SUCCEEDED).latest("id").pk
    schedule = ReportSchedule.objects.order_by("pk")[0].pk
    pages = {
        "overview": "",
        "queue": "reportqueue/",
        "row-failed": f"reportqueue/{failed}/change/",
        "row-succeeded": f"reportqueue/{done}/change/",
        "failures": "reportqueue/failures/",
        "bulk-start": "reportqueue/bulk/?verb=requeue&status=failed",
        "bulk-action": f"reportqueue/bulk/{BulkAction.objects.latest('id').pk}/",
        "enqueue": "reportqueue/enqueue/?report_id=1",
        "zone": "reportqueue/zone/",
        "schedules": "reportschedule/",
        "schedule": f"reportschedule/{schedule}/change/",
        "agenda": "reportschedule/agenda/",
        "catalogue": "report/",
        "report": "report/1/change/",
        "pauses": "pause/",
        "audit": "auditentry/",
    }
    return {name: f"/admin/reportqueue/{page}" for name, page in pages.items()}


@contextmanager
def _web_app() -> Iterator[str]:
    """The web app, as a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/healthz", process)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310  # this machine's own web app
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"The web app does not answer at {address}.")


def _take(chromium: str, address: str, password: str, folder: Path, *, docs: bool, zone: str) -> int:
    from playwright.sync_api import sync_playwright

    from reportqueue.admin.viewer_zone import COOKIE

    pages, wrong = _pages(), 0
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                context = browser.new_context(
                    base_url=address, viewport={"width": width, "height": height}, color_scheme=scheme
                )
                if zone:
                    context.add_cookies([{"name": COOKIE, "value": zone, "url": address}])
                page: Any = context.new_page()
                _log_in(page, password)
                for name, target in pages.items():
                    answer = page.goto(target)
                    wrong += answer is None or answer.status != 200
                    picture = folder / f"{name}-{size}-{scheme}.png"
                    page.screenshot(path=picture, full_page=True)
                    if docs and name in FOR_DOCS and (size, scheme) == ("wide", "light"):
                        page.screenshot(path=Path("docs/images") / FOR_DOCS[name])
                print(f"{len(pages)} pages, {size}, {scheme}: {folder}", flush=True)
        browser.close()
    if wrong:
        print(f"error: {wrong} pages could not be shown", file=sys.stderr)
    return 1 if wrong else 0


def _log_in(page: Any, password: str) -> None:
    page.goto("/admin/login/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", password)
    page.click("input[type=submit]")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    sys.exit(main())
