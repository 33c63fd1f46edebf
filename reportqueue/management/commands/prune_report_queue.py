"""`manage.py prune_report_queue`: delete old finished rows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from reportqueue import bounds, bulk, outbox, queue
from reportqueue.clock import database_now
from reportqueue.management.arguments import duration, whole_number
from reportqueue.models import AuditEntry


class Command(BaseCommand):
    """Deletes in batches, each with its own commit: it may be stopped at any time, and run beside everything else."""

    help = (
        "Deletes finished reports with their attempts, and bulk actions, that ended longer ago than a given time. Also "
        "deletes the events of webhooks that are older than REPORTQUEUE['EVENT_RETENTION_SECONDS']."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument(
            "--older-than",
            type=duration,
            required=True,
            metavar="DURATION",
            help="how long ago they must have ended: 90d, 12h, 30m, 2w",
        )
        parser.add_argument(
            "--keep",
            type=whole_number(*bounds.NUMBERS["keep"]),
            default=0,
            metavar="N",
            help="keep the newest N finished rows of each report and modifier, however old (default 0)",
        )
        parser.add_argument(
            "--batch",
            type=whole_number(*bounds.NUMBERS["batch"]),
            default=1_000,
            metavar="N",
            help="rows a transaction (default 1000)",
        )
        parser.add_argument(
            "--audit-older-than",
            type=duration,
            metavar="DURATION",
            help="delete the audit entries that are older than this, too (default: none)",
        )
        parser.add_argument("--dry-run", action="store_true", help="count all that would be deleted, delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the count, and a line after each full batch."""
        chosen = {"older_than": options["older_than"], "keep": options["keep"]}
        if options["dry_run"]:
            self.stdout.write(f"{queue.prunable(**chosen).count():,} finished reports would be deleted.")
            actions = bulk.count_prunable(older_than=options["older_than"])
            self.stdout.write(f"{actions:,} bulk actions would be deleted.")
            self.stdout.write(f"{outbox.count_prunable():,} events would be deleted.")
            if (age := options["audit_older_than"]) is not None:
                old = AuditEntry.objects.filter(at__lt=database_now() - age)
                self.stdout.write(f"{old.count():,} audit entries would be deleted.")
            return
        deleted = kept = 0
        for done in queue.prune(**chosen, batch=options["batch"]):
            deleted, kept = deleted + done.deleted, kept + done.kept
            if done.deleted + done.kept == options["batch"]:
                self.stdout.write(f"{deleted:,} deleted so far ...")
        self.stdout.write(f"{deleted:,} finished reports deleted.")
        if actions := bulk.prune(older_than=options["older_than"]):
            self.stdout.write(f"{actions:,} bulk actions deleted.")
        if told := sum(outbox.prune(batch=options["batch"])):
            self.stdout.write(f"{told:,} events deleted.")
        if kept:
            self.stdout.write(f"{kept:,} could not be deleted: something else refers to them; the log names them.")
        if (age := options["audit_older_than"]) is not None:
            entries = sum(queue.prune_audit(older_than=age, batch=options["batch"]))
            self.stdout.write(f"{entries:,} audit entries deleted.")
