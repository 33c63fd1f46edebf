"""Pictures of the admin's pages. `run.py screenshots` starts this, with an empty database in DATABASE_URL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django

from tools.runner.stack import HOST, answers, free_port
from tools.screenshots import pictures

START_SECONDS = 60


def main() -> int:
    """Write the pictures; returns 0 if every page could be shown."""
    parser = ArgumentParser(prog="run.py screenshots", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=Path(".data/screenshots"), help="default: .data/screenshots")
    parser.add_argument("--docs", action="store_true", help="renew the pictures of the docs instead, in docs/images")
    parser.add_argument("--zone", default="", help="the pages of a person who has chosen this time zone")
    chosen = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: Chromium is not installed; on Debian: apt-get install chromium", file=sys.stderr)
        return 1
    django.setup()
    from tools.screenshots import scene

    made = scene.make(calm=chosen.docs)
    with _web_app() as address, pictures.browser(chromium, address, made, chosen.zone) as browser:
        wrong = browser.take_for_docs() if chosen.docs else browser.take_all(chosen.folder)
    for text in wrong:
        print(f"error: {text}", file=sys.stderr)
    return 1 if wrong else 0


@contextmanager
def _web_app() -> Iterator[str]:
    """The web app, as a process of its own; its address."""
    place = f"{HOST}:{free_port()}"
    command = [sys.executable, "manage.py", "runserver", "--noreload", place]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://{place}"
    try:
        _wait_for(f"{address}/healthz", process)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if answers(address):
            return
        time.sleep(0.2)
    raise RuntimeError(f"The web app does not answer at {address}.")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    sys.exit(main())
