"""What leaves the queue during `run.py demo --once`: the mail of an alert, signed webhooks, and the metrics page."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path

from django.conf import settings

from project import demo_reports, receiver
from reportqueue import outbox, queue
from reportqueue.models import AlertRule
from reportqueue.models.alert import Condition
from reportqueue.models.event import EventType
from reportqueue.patterns import Pattern

HTTP_SECONDS = 10
FAILED = "reportqueue_failed_last_hour_rows"
"""The metric that is printed."""
TO_FILES = "django.core.mail.backends.filebased.EmailBackend"
MISSING = "nothing has come in time"


@dataclass
class Outgoing:
    """What was caused, and what has come of it so far."""

    environment: Mapping[str, str]
    told: str
    """What the mail says of it."""
    failing: int | None
    """The row that is to fail; None for a test message."""
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    mail: str = ""
    webhooks: str = ""
    metrics: str = ""

    def look(self, succeeded: Collection[int]) -> bool:
        """Look for what is missing still; whether all is there. `succeeded`: the rows that have to be told of."""
        self.mail = self.mail or self._mail()
        self.webhooks = self.webhooks or _webhooks(succeeded)
        self.metrics = self.metrics or self._metrics()
        return all((self.mail, self.webhooks, self.metrics))

    def report(self) -> None:
        """Print a line about each."""
        print()
        for name, found in (
            ("Alert by mail", self.mail),
            ("Webhooks", self.webhooks),
            ("Metrics", self.metrics),
        ):
            print(f"{name + ':':<15} {found or MISSING}")

    def _mail(self) -> str:
        if settings.EMAIL_BACKEND != TO_FILES:
            sent = AlertRule.objects.filter(sent_at__gte=self.began).exists()
            return f"“{self.told}” was sent by {settings.EMAIL_BACKEND}" if sent else ""
        folder = Path(settings.EMAIL_FILE_PATH)
        for file in folder.glob("*.log") if folder.exists() else ():
            if file.stat().st_mtime >= self.began.timestamp() and self.told in file.read_text():
                return f"“{self.told}” is in {file}"
        return ""

    def _metrics(self) -> str:
        url = f"{self.environment['REPORTQUEUE_URL']}/metrics"
        token = self.environment.get("METRICS_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            request = urllib.request.Request(url, headers=headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:  # noqa: S310
                lines = answer.read().decode().splitlines()
        except (OSError, HTTPException):
            return ""
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        if float(values.get(FAILED, 0)) < (self.failing is not None):
            return ""
        return f"{len(values)} values, {FAILED} is {float(values[FAILED]):g}, at {url}"


def begin(pattern: Pattern, environment: Mapping[str, str]) -> Outgoing:
    """Cause an alert: queue a report that cannot be made. With the pattern `polling` the queue does not learn of
    failures, so a test message is sent."""
    if pattern != Pattern.POLLING:
        row = queue.enqueue(**demo_reports.FAILING).pk
        return Outgoing(environment, f"row {row} of report", row)
    rule = AlertRule.objects.filter(enabled=True, condition=Condition.FAILED).latest("pk")
    outbox.request_test(rule.pk)
    return Outgoing(environment, f"Test of {rule}", None)


def _webhooks(rows: Collection[int]) -> str:
    """How many of the events that rows have succeeded were received; only if all of them were."""
    if not receiver.FILE.exists():
        return ""
    events = [json.loads(line) for line in receiver.FILE.read_text().splitlines()]
    told = {one["data"]["queue_id"] for one in events if one["type"] == EventType.SUCCEEDED.value}
    if not rows or not told.issuperset(rows):
        return ""
    return f"{len(rows)} reports that succeeded are in {receiver.FILE}, each with a valid signature"
