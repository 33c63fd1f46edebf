"""`manage.py fill_history`: a day of believable past, so that the demo's pages have something to show."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from project import demo_history
from reportqueue.management.arguments import whole_number
from reportqueue.models import ReportQueue


class Command(BaseCommand):
    """Adds rows past the queue's verbs: it is for the demo, and for an empty queue alone."""

    help = "Fills an empty queue with reports that ended in the last day. For the demo and for screenshots."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument(
            "--rows",
            type=whole_number(1, 100_000),
            default=demo_history.ROWS,
            metavar="N",
            help=f"how many (default {demo_history.ROWS:,})",
        )
        parser.add_argument("--if-empty", action="store_true", help="do nothing if the queue has rows")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Print how many rows were added. Exit code 1 if the queue has rows."""
        if ReportQueue.objects.exists():
            if options["if_empty"]:
                return
            raise CommandError("The queue has rows already: a made-up past must not be mixed with them.")
        added = demo_history.fill(options["rows"])
        self.stdout.write(f"{added:,} reports of the last {demo_history.HOURS} hours were made up.")
