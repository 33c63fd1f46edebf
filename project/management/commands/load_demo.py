"""`manage.py load_demo`: create the demo's users, catalogue, schedules, a webhook subscription and an alert rule."""

from __future__ import annotations

import os
from datetime import date
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from project import receiver
from project.demo_reports import CALENDAR, CLOSED_WEEKDAYS, HOLIDAYS, SCHEDULES
from project.environment import BASE_DIR
from reportqueue import api_users, catalogue_file, credentials, tokens
from reportqueue.conf import conf
from reportqueue.models import (
    AlertRule,
    ApiToken,
    BlackoutCalendar,
    BlackoutDays,
    BlackoutHours,
    Report,
    ReportSchedule,
    WebhookSubscription,
)
from reportqueue.models.alert import Condition
from reportqueue.models.event import EventType

CATALOGUE = BASE_DIR / "project" / "catalogue.toml"
RECEIVER = "The demo's receiver"
TOKEN_NAME = "demo"  # noqa: S105  # the name, not the token


class Command(BaseCommand):
    """Reads its values from the environment, which `run.py demo` sets."""

    help = (
        "Creates the demo's admin user, its consumer with its token, its catalogue of reports, its schedules, a "
        "webhook subscription and an alert rule, where they are missing."
    )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Needs ADMIN_PASSWORD and REPORTQUEUE_TOKEN."""
        try:
            password, key = os.environ["ADMIN_PASSWORD"], os.environ["REPORTQUEUE_TOKEN"]
        except KeyError as error:
            raise CommandError(f"Set {error.args[0]} in the environment.") from None
        if not User.objects.filter(username="admin").exists():
            User.objects.create_superuser("admin", "admin@example.com", password)
        self._set_up_consumer(key)
        if not Report.objects.exists():
            catalogue_file.load(catalogue_file.read(CATALOGUE))
        if not ReportSchedule.objects.exists():
            calendars = {CALENDAR: self._calendar()}
            for fields in SCHEDULES:
                calendar = calendars[fields["calendar"]] if "calendar" in fields else None
                ReportSchedule(**{**fields, "calendar": calendar}).save()
        if conf().webhook_allow_http:
            self._set_up_events()
        counts = f"{Report.objects.count()} reports, {ReportSchedule.objects.count()} schedules"
        self.stdout.write(f"{counts}, users admin and dagster")

    def _set_up_consumer(self, key: str) -> None:
        """The user `dagster` has the token of this key, and none of an earlier key."""
        prepared = api_users.prepare("dagster", api_users.ANY_CONSUMER)
        prepared.carry_out()
        earlier = ApiToken.objects.filter(user=prepared.user, name=TOKEN_NAME)
        if earlier.filter(digest=credentials.digest(key), revoked_at=None).exists():
            return
        earlier.delete()
        try:
            tokens.issue(prepared.user, name=TOKEN_NAME, scopes=api_users.ANY_CONSUMER, key=key)
        except ValidationError as error:
            raise CommandError(f"REPORTQUEUE_TOKEN: {' '.join(error.messages)}") from None

    def _set_up_events(self) -> None:
        """A webhook subscription of the demo's own receiver, and an alert rule, where they are missing."""
        types = [EventType.SUCCEEDED, EventType.FAILED, EventType.LATE, EventType.PAUSED, EventType.RESUMED]
        own = WebhookSubscription.objects.of_people().filter(description=RECEIVER)
        if not own.update(url=receiver.url()):  # the demo may have another port than before
            chosen = [kind.value for kind in types]
            WebhookSubscription(url=receiver.url(), description=RECEIVER, event_types=chosen).save()
        if not AlertRule.objects.exists():
            # In the demo, each failure is told at once.
            to = {"emails": ["desk@example.com"], "quiet_seconds": 0}
            AlertRule(name="Failed reports", condition=Condition.FAILED, **to).save()

    def _calendar(self) -> BlackoutCalendar:
        calendar, made = BlackoutCalendar.objects.get_or_create(name=CALENDAR)
        if made:
            for first, last, label in HOLIDAYS:
                BlackoutDays.objects.create(
                    calendar=calendar,
                    first_day=date.fromisoformat(f"2026-{first}"),
                    last_day=date.fromisoformat(f"2026-{last}"),
                    every_year=True,
                    label=label,
                )
            for weekday in CLOSED_WEEKDAYS:
                BlackoutHours.objects.create(calendar=calendar, weekday=weekday, label="weekend")
        return calendar
