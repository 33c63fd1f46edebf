"""`manage.py erase_modifier`: erase the data of one modifier, such as a customer."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from reportqueue import audit, bounds, catalogue, erasure, modifiers
from reportqueue.errors import ReportQueueError
from reportqueue.management.arguments import whole_number

PROGRESS = 5_000
"""After so many records of a kind a line says how far it is."""
REFUSED, USAGE = 1, 2


@audit.by_command
class Command(BaseCommand):
    """Exit codes: 0 done; 1 refused, or something is left to be erased by another run; 2 options that make no sense."""

    help = (
        "Erases what the app keeps of one modifier, such as a customer: parameters, results, errors and other texts of "
        "its reports, in all tables; its schedules and webhook sources are deleted. Numbers, times and statuses stay. "
        "docs/data-protection.md says more, also what Dagster, logs and backups keep. It may be stopped and run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The modifier, and how."""
        parser.add_argument("modifier", type=whole_number(*bounds.NUMBERS["modifier_id"]), help="its number")
        parser.add_argument("--dry-run", action="store_true", help="count by kind, change nothing")
        parser.add_argument("--yes", action="store_true", help="do not ask; needed without a terminal")
        parser.add_argument(
            "--cancel",
            action="store_true",
            help="stop its schedules, webhook sources and bulk actions, and cancel its unfinished reports, instead of "
            "refusing",
        )
        parser.add_argument(
            "--batch",
            type=whole_number(*bounds.NUMBERS["batch"]),
            default=erasure.BATCH,
            metavar="N",
            help=f"rows a transaction (default {erasure.BATCH})",
        )
        parser.add_argument(
            "--run-ids", type=Path, metavar="FILE", help="write the ids of its runs in Dagster to this file, one a line"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print each address that is not deleted, how far it is, and the counts."""
        modifier_id, dry_run = options["modifier"], options["dry_run"]
        name = catalogue.label(modifier_id, modifiers.names([modifier_id]).get(modifier_id))
        found = erasure.going_on(modifier_id)
        if found and not options["cancel"] and not dry_run:
            raise CommandError(
                f"Modifier {name} is in use: {found}. Nothing was erased. End these first, or give --cancel.",
                returncode=REFUSED,
            )
        if not dry_run and not options["yes"]:
            _ask(name)
        so_far: Counter[str] = Counter()

        def progress(kind: str, count: int) -> None:
            before, so_far[kind] = so_far[kind], so_far[kind] + count
            if so_far[kind] // PROGRESS > before // PROGRESS:
                self.stdout.write(f"{so_far[kind]:,} {kind} so far ...")

        with ExitStack() as files:
            path = options["run_ids"]
            try:
                file: TextIO | None = None if path is None else files.enter_context(path.open("w"))
            except OSError as error:
                raise CommandError(f"{path} cannot be written: {error.strerror}.", returncode=USAGE) from None

            def runs(run_ids: Collection[str]) -> None:
                if file is not None:
                    file.writelines(f"{run_id}\n" for run_id in sorted(run_ids))

            try:
                done = erasure.erase_modifier(
                    modifier_id,
                    not_deleted=self._not_deleted,
                    cancel=options["cancel"],
                    dry_run=dry_run,
                    batch=options["batch"],
                    progress=progress,
                    runs=runs,
                )
            except (ReportQueueError, ImproperlyConfigured) as error:
                raise CommandError(str(error), returncode=REFUSED) from None
        self._say(done, name, dry_run=dry_run)
        if dry_run and found:
            self.stdout.write(f"It is in use: {found}. Without --cancel it would be refused.")
        if done.left and not dry_run:
            raise CommandError(
                f"{done.left:,} are left: they have not ended, or others held them. Run the command again soon.",
                returncode=REFUSED,
            )

    def _not_deleted(self, queue_id: int, address: str) -> None:
        self.stdout.write(f"not deleted, of row {queue_id}: {address}")

    def _say(self, done: erasure.Erased, name: str, *, dry_run: bool) -> None:
        verb = "would be erased" if dry_run else "erased"
        for kind, count in sorted(done.counts.items()):
            if count:
                self.stdout.write(f"{count:,} {kind}")
        if not done.counts.total():
            self.stdout.write(f"Nothing of modifier {name} {'would be' if dry_run else 'was left to be'} erased.")
        else:
            self.stdout.write(f"Modifier {name}: {done.counts.total():,} records {verb}.")


def _ask(name: str) -> None:
    """Have a person confirm it. Raises `CommandError` if there is none, or for any other answer than yes."""
    if not sys.stdin.isatty():
        raise CommandError("This cannot be undone, and nobody can be asked here: give --yes.", returncode=USAGE)
    answer = input(f"Erase the data of modifier {name}? This cannot be undone. Type yes to go on: ")
    if answer.strip().lower() != "yes":
        raise CommandError("Nothing was erased.", returncode=REFUSED)
