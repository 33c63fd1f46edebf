"""`manage.py size_report_queue`: how large an installation must be for a load, and why."""

from __future__ import annotations

import math
import re
import textwrap
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reportqueue.management.arguments import duration, whole_number
from reportqueue.sizing import DAY, Load, Peak, figures

MOST = 1_000_000_000
"""Reports a day."""
WIDTH = 100


class Command(BaseCommand):
    """Asks no database, and changes nothing."""

    help = (
        "Works out how many processes, connections and slots a load needs, how long reports wait at its peak, and how "
        "the tables grow. Each figure is printed with its formula, and with what that rests on."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument(
            "--per-day", type=whole_number(1, MOST), required=True, metavar="N", help="reports on a busy day"
        )
        parser.add_argument(
            "--seconds", type=_seconds, required=True, metavar="S", help="how long one report takes, on average"
        )
        parser.add_argument(
            "--peak",
            type=_peak,
            metavar="N@HH:MM",
            help="reports of the day that are due at one instant, such as 10000@09:00 (default: none; then the busiest "
            "minutes are assumed to have ten times the average)",
        )
        parser.add_argument(
            "--within",
            type=duration,
            default="10m",
            metavar="DURATION",
            help="how long it may take until the reports of the peak are made: 10m, 1h (default 10m)",
        )
        parser.add_argument(
            "--enqueue",
            choices=("http", "code"),
            default="http",
            help="how reports come into the queue: each by a call over HTTP, or by schedules and code in Django "
            "(default http)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the figures."""
        within = round(options["within"].total_seconds())
        if not 1 <= within <= DAY:
            raise CommandError("--within must be from 1s to 1d.", returncode=2)
        try:
            load = Load(
                options["per_day"], options["seconds"], options["peak"], within, by_http=options["enqueue"] == "http"
            )
        except ValueError as error:
            raise CommandError(f"--peak does not go with --per-day: {error}.", returncode=2) from None
        self.stdout.write(str(load))
        for figure in figures(load):
            self.stdout.write(f"\n{figure}")
            for text in (f"= {figure.formula}", f"{figure.basis}."):
                self.stdout.write(textwrap.indent(textwrap.fill(text, WIDTH), "    "))


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0.001 <= found <= DAY:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0.001 to {DAY:,}")
    return found


def _peak(text: str) -> Peak:
    match = re.fullmatch(r"([0-9]{1,10})@([0-9]{1,2}):([0-9]{2})", text)
    if match is None or not 1 <= int(match[1]) <= MOST or int(match[2]) > 23 or int(match[3]) > 59:
        raise ArgumentTypeError(f"{text!r} is not a number of reports and a time such as 10000@09:00")
    return Peak(int(match[1]), int(match[2]), int(match[3]))
