"""Shows the queue's rows by status while the demo runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db import Error, connection
from django.db.models import Count

from reportqueue.models import ReportQueue
from reportqueue.states import Status

POLL_SECONDS = 0.5
NO_DATABASE = "the database does not answer"


def show(check: Callable[[], None]) -> None:
    """Print a line when the counts change, until `check` raises."""
    print("Reports by status, a line for each change; Ctrl-C stops everything.", flush=True)
    line = Line()
    while True:
        check()
        try:
            line.say(_counts())
        except Error:
            line.say(NO_DATABASE)
        connection.close()
        time.sleep(POLL_SECONDS)


class Line:
    """Prints changed texts with the time of day."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, text: str) -> None:
        """Print the text, unless it was printed last."""
        if text != self._last:
            print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
        self._last = text


def _counts() -> str:
    found = dict(ReportQueue.objects.values_list("status").annotate(count=Count("pk")))
    return "  ".join(f"{status.value} {found[status]}" for status in Status if status in found) or "no reports yet"
