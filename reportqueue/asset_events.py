"""Dagster is told that schedules have changed: a materialization of the asset that its sensor watches.

At the commit, by HTTP to Dagster's webserver, in a thread of its own, and best effort: whoever saves a schedule neither
waits for Dagster nor fails with it. What gets lost, the asset's daily refresh makes up for.
"""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from http.client import HTTPException

from django.db import connection

from reportqueue.conf import conf

ASSET = "report_cron_schedules"
TIMEOUT_SECONDS = 5.0
PAUSES_SECONDS = (1.0, 5.0)
"""Before the second try and the third, which is the last."""
logger = logging.getLogger("reportqueue")


class NotTold(Exception):
    """Dagster does not know of the change; the message says why."""


def post() -> None:
    """Tell Dagster now. Raises `NotTold`; does nothing if `DAGSTER_URL` is not set."""
    from reportqueue import plan  # which needs the models

    if not (url := conf().dagster_url):
        return
    edition = plan.edition()
    # The schedules themselves stay here: of two such messages the older could come last.
    event = {
        "description": "The schedules have changed.",
        "metadata": {"version": edition.version, "count": edition.count},
    }
    request = urllib.request.Request(  # noqa: S310  # the setting's check wants http or https
        f"{url.rstrip('/')}/report_asset_materialization/{ASSET}",
        data=json.dumps(event).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            answer.read()
    except (OSError, HTTPException) as error:
        raise NotTold(f"{request.full_url}: {error}") from None


class _Announcer:
    """At most one thread, which makes one call of however many changes there have been since its last one."""

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
        # Not a daemon: a command that ends right after its commit waits for it, which its time-outs bound.
        threading.Thread(target=self._work, name="reportqueue-asset-events").start()

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
            connection.close()

    def _tell(self) -> None:
        for pause in (*PAUSES_SECONDS, None):
            try:
                post()
                return
            except Exception as error:  # whatever it is, the thread must go on: nobody else would notice
                said = " ".join(str(error).split())[:300]
            if pause is not None:
                threading.Event().wait(pause)
        text = "Dagster was not told that schedules have changed (%s); the daily refresh of %s makes up for it."
        logger.warning(text, said, ASSET)


announce = _Announcer().announce
"""Tell Dagster soon, if `DAGSTER_URL` is set; returns at once."""
