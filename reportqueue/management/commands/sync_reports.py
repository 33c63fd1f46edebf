"""`manage.py sync_reports`: load the catalogue of reports from a TOML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reportqueue import audit, catalogue_file
from reportqueue.catalogue_file import BadCatalogueFile, Change, Plan
from reportqueue.errors import ReportQueueError

MISFITS = 20
"""Schedules that a warning names."""
SHOWN = 60
"""Characters of a value in the list of changes."""


@audit.by_command
class Command(BaseCommand):
    """Adds and changes reports as the file says, all or none. A report that the file does not have stays."""

    help = (
        "Loads the catalogue of reports from a TOML file, and says what that changes. A report of the database that "
        "the file does not have is named, and stays as it is. docs/catalogue.md describes the file."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The file, and whether to write."""
        parser.add_argument("file", type=Path, metavar="FILE", help="the catalogue, for instance reports.toml")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print each change and a line that counts them."""
        try:
            done = catalogue_file.load(catalogue_file.read(options["file"]), dry_run=options["dry_run"])
        except (BadCatalogueFile, ReportQueueError) as error:
            raise CommandError(str(error)) from None
        for change in done.changes:
            self._say(change)
        for report in done.missing:
            self.stdout.write(f"? {report}: not in the file, stays as it is")
        self.stdout.write(_summary(done, dry_run=options["dry_run"]))

    def _say(self, change: Change) -> None:
        if change.added:
            self.stdout.write(f"+ {change.report}")
            self._warn(change)
            return
        self.stdout.write(f"~ {change.report}")
        for name, (before, after) in change.fields.items():
            self.stdout.write(f"    {name}: {_text(before)} -> {_text(after)}")
        self._warn(change)

    def _warn(self, change: Change) -> None:
        if pks := change.misfits.pks:
            named = ", ".join(f"#{pk}" for pk in pks[:MISFITS]) + (", …" if len(pks) > MISFITS else "")
            self.stdout.write(
                f"! schedules of {change.report} with parameters that do not fit the schema: {named}. They go on "
                "queueing them; change their parameters."
            )
        if change.misfits.unchecked:
            self.stdout.write(
                f"! schedules of {change.report} that were not compared with the schema, since there are too many: "
                f"{change.misfits.unchecked:,}"
            )


def _summary(done: Plan, *, dry_run: bool) -> str:
    added = sum(change.added for change in done.changes)
    changed = len(done.changes) - added
    missing = f", {len(done.missing):,} not in the file" if done.missing else ""
    if dry_run:
        counts = f"{added:,} would be added, {changed:,} would be changed, {done.unchanged:,} would stay as they are"
        return f"{counts}{missing}; nothing was changed."
    return f"{added:,} added, {changed:,} changed, {done.unchanged:,} as they were{missing}."


def _text(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
