"""`manage.py deliver_events`: sends webhooks and alerts, beside the scheduler or instead of it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from reportqueue import bounds, outbox
from reportqueue.management.arguments import whole_number

DEFAULT_SECONDS = 60


class Command(BaseCommand):
    """Sends what is due, or goes on until it is stopped with `--loop`; any number of processes may run at once."""

    help = (
        "Delivers events to webhook subscriptions, and sends the messages of alert rules. enqueue_due_reports does so, "
        "too: run this where there are many, or on a machine that reaches their receivers. Safe to run several times "
        "at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--loop", action="store_true", help="go on until SIGTERM or Ctrl-C")
        parser.add_argument(
            "--seconds",
            type=whole_number(1, 3_600),
            default=DEFAULT_SECONDS,
            help="without --loop: the longest that it works (1 to 3600, default 60); it ends once nothing is due",
        )

        parser.add_argument(
            "--threads",
            type=whole_number(1, bounds.MAX_WEBHOOK_THREADS),
            metavar="N",
            help=f"how many webhooks it sends at once (1 to {bounds.MAX_WEBHOOK_THREADS}, default: the setting "
            "WEBHOOK_THREADS, but at least one)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        threads = options["threads"]
        if not options["loop"]:
            self.stdout.write(f"{outbox.deliver_for(options['seconds'], threads=threads):,} webhooks delivered")
            return
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        outbox.work(stop, threads=threads)
