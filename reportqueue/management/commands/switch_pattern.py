"""`manage.py switch_pattern`: let another pattern own all firings from an instant on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reportqueue import audit, triggers
from reportqueue.errors import HandoverRefused, RowBusy
from reportqueue.management.arguments import instant, user_name
from reportqueue.patterns import Pattern
from reportqueue.triggers import asset_events


@audit.by_command
class Command(BaseCommand):
    """Hands firings over to a pattern, cancels a planned hand-over, or shows the current pattern."""

    help = (
        "Says to which pattern the schedules' firings belong, and hands them over: every firing before the instant "
        "belongs to the old pattern, every later one to the new. Keep the old pattern's sensors until it has passed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--to", choices=Pattern.values, help="the pattern that gets the firings")
        what.add_argument("--cancel", action="store_true", help="take back the hand-over that is planned")
        parser.add_argument(
            "--at", type=instant, metavar="INSTANT", help="such as 2026-12-01T08:00:00+01:00 (default: now)"
        )
        parser.add_argument("--dry-run", action="store_true", help="say whether it can be done, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what was done, the current pattern, the planned hand-over, and whether a consumer of them is silent."""
        if options["to"] is None and (options["at"] is not None or options["dry_run"]):
            raise CommandError("--at and --dry-run go with --to.", returncode=2)
        try:
            if options["cancel"]:
                self.stdout.write(f"Taken back: the hand-over to {triggers.cancel_planned().after}.")
            elif options["to"] is not None:
                self._hand_over(Pattern(options["to"]), options["at"], dry_run=options["dry_run"])
        except (HandoverRefused, RowBusy) as error:
            raise CommandError(str(error)) from None
        state = triggers.current()
        since = "" if state.since is None else f", since {_text(state.since)}"
        self.stdout.write(f"Firings belong to {state.pattern}{since}.")
        if state.planned is not None:
            self.stdout.write(f"From {_text(state.planned.at)} on they belong to {state.planned.after}.")
        concerned = [state.pattern, options["to"], state.planned.after if state.planned else None]
        for pattern in dict.fromkeys(filter(None, concerned)):
            if (silence := triggers.silence_of(Pattern(pattern))) is not None:
                self.stderr.write(str(silence))

    def _hand_over(self, to: Pattern, at: datetime | None, *, dry_run: bool) -> None:
        done = triggers.hand_over(to, at=at, by=user_name(), dry_run=dry_run)
        verb = "Would be handed over" if dry_run else "Handed over"
        self.stdout.write(f"{verb} from {done.before} to {done.after}: every firing at {_text(done.at)} and later.")
        if dry_run:
            return
        try:
            asset_events.post()
        except asset_events.NotTold as error:
            self.stderr.write(f"Dagster was not told ({error}): materialize {asset_events.ASSET} there.")


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
