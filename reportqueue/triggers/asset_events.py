"""Report changed schedules to Dagster, as a materialization of the asset that its sensor watches.

It is sent after the commit, by HTTP to Dagster's webserver, in a thread of its own. Saving a schedule does not wait for
Dagster and does not fail with it. If a report is lost, the asset's daily refresh follows.
"""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR
from typing import Any
from urllib.parse import urlsplit

from reportqueue import database
from reportqueue.conf import conf
from reportqueue.triggers import feed

ASSET = "report_cron_schedules"
TIMEOUT_SECONDS = 5.0
"""For the connection, and once more for the request and the whole answer."""
MAX_ANSWER_BYTES = 64 * 1024
PAUSES_SECONDS = (1.0, 5.0)
"""Before the second and the third attempt, which is the last."""
logger = logging.getLogger("reportqueue")


class NotTold(Exception):
    """Dagster was not told of the change; the message says why."""


def post() -> None:
    """Report the change to Dagster now. Raises `NotTold`; does nothing if `DAGSTER_URL` is not set."""
    if not (url := conf().dagster_url):
        return
    edition = feed.edition()
    # The message does not hold the schedules: of two messages the older could arrive last.
    event = {
        "description": "The schedules have changed.",
        "metadata": {"version": edition.version, "count": edition.count},
    }
    address = f"{url.rstrip('/')}/report_asset_materialization/{ASSET}"
    try:
        _send(address, json.dumps(event).encode())
    except (OSError, HTTPException, ValueError) as error:
        raise NotTold(f"{address}: {error or type(error).__name__}") from None


def _send(address: str, body: bytes) -> None:
    """POST it. Raises `ValueError` for any other answer than the webserver's own, redirects included."""
    parts = urlsplit(address)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    link = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    # A socket's time-out applies to each read: an answer that arrives byte by byte would never reach it.
    cut = threading.Timer(TIMEOUT_SECONDS, _cut, (link,))
    cut.daemon = True
    try:
        link.connect()
        cut.start()
        link.request("POST", parts.path, body, {"Content-Type": "application/json"})
        with link.getresponse() as answer:
            said = answer.read(MAX_ANSWER_BYTES)
    finally:
        cut.cancel()
        link.close()
    if answer.status != 200:
        raise ValueError(f"{answer.status} {answer.reason}; DAGSTER_URL has to be Dagster's webserver itself")
    # It may be a proxy's login page.
    if not _is_object(said):
        raise ValueError("not answered as Dagster's webserver does; DAGSTER_URL has to be that itself")


def _is_object(said: bytes) -> bool:
    try:
        return isinstance(json.loads(said), dict)
    except ValueError:
        return False


def _cut(link: HTTPConnection) -> None:
    with suppress(OSError):  # the connection has just ended
        if link.sock is not None:
            link.sock.shutdown(SHUT_RDWR)


class _Announcer:
    """Reports changes in one thread: all changes during a call are reported together by the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = 0
        self._working = False

    def announce(self) -> None:
        if not conf().dagster_url:
            return
        with self._lock:
            self._asked += 1
            if self._working:
                return
            self._working = True
        # Not a daemon thread: a command that ends right after its commit waits for it, as long as its time-outs allow.
        try:
            threading.Thread(target=self._work, name="reportqueue-asset-events").start()
        except RuntimeError as error:  # no more threads can be started; the schedules are saved all the same
            with self._lock:
                self._working = False
            _warn(error)

    def _work(self) -> None:
        try:
            while True:
                with self._lock:
                    asked = self._asked
                self._tell()
                with self._lock:
                    if self._asked == asked:
                        self._working = False
                        return
        finally:
            database.close()

    def _tell(self) -> None:
        for pause in (*PAUSES_SECONDS, None):
            try:
                post()
                return
            except Exception as error:  # an error must not end the thread: later changes would not be reported
                failed = error
            if pause is not None:
                threading.Event().wait(pause)
        _warn(failed)


def _warn(error: Exception) -> None:
    said = " ".join(str(error).split())[:300]
    text = "Dagster was not told that schedules have changed (%s); the daily refresh of %s makes up for it."
    logger.warning(text, said, ASSET)


announce = _Announcer().announce
"""Report a change to Dagster soon, if `DAGSTER_URL` is set; returns at once."""


def announce_at_commit(**_: Any) -> None:
    """The receiver of `notices.schedules_edited`."""
    database.on_commit(announce)
