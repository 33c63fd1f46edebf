"""`manage.py import_schedules`: import periodic tasks of django-celery-beat as schedules."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Hashable
from datetime import UTC
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from reportqueue import audit, bounds, locks
from reportqueue.celery_beat import duplicates, tables
from reportqueue.celery_beat.comparison import MAX_FIRINGS, Line, compare
from reportqueue.celery_beat.drafts import Draft, Mapping, NotImportable, in_words
from reportqueue.celery_beat.tables import BeatError, BeatTask
from reportqueue.clock import database_now
from reportqueue.errors import RowBusy
from reportqueue.management.arguments import plain_text, whole_number

_USAGE = 2


@audit.by_command
class Command(BaseCommand):
    """Shows each task with its next firings, by beat and by the new schedule, then saves the schedules."""

    help = (
        "Imports schedules from django-celery-beat's tables, and shows where the next firings differ. Repeating it "
        "makes no second copy. Neither celery nor django-celery-beat need be installed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        which = parser.add_argument_group("which periodic tasks")
        which.add_argument(
            "--task",
            type=plain_text,
            action="append",
            default=[],
            metavar="NAME",
            help="that run this celery task; may be repeated",
        )
        which.add_argument("--name", type=plain_text, metavar="GLOB", help="whose own name matches, such as 'sales-*'")
        which.add_argument("--all", action="store_true", help="all of them")
        which.add_argument(
            "--database", choices=tuple(connections), default="default", help="where the tables are (default: default)"
        )
        what = parser.add_argument_group("what they become")
        for kind in ("report", "modifier"):
            source = what.add_mutually_exclusive_group()
            source.add_argument(
                f"--{kind}-id", type=whole_number(0, bounds.MAX_ID), metavar="N", help=f"the {kind} of all of them"
            )
            source.add_argument(
                f"--{kind}-kwarg",
                type=plain_text,
                default=f"{kind}_id",
                metavar="NAME",
                help=f"the keyword argument that says which {kind} (default {kind}_id); the others become params",
            )
        what.add_argument(
            "--args-as",
            type=_names,
            default=(),
            metavar="NAME,NAME",
            help="names for the positional arguments, which become keyword arguments",
        )
        what.add_argument("--paused", action="store_true", help="disabled: beat still fires them, and both must not")
        how = parser.add_argument_group("how")
        how.add_argument("--dry-run", action="store_true", help="show, save nothing")
        how.add_argument(
            "--firings",
            type=whole_number(1, MAX_FIRINGS),
            default=5,
            metavar="N",
            help=f"how many of the next firings to compare (1 to {MAX_FIRINGS}, default 5)",
        )
        how.add_argument("--strict", action="store_true", help="exit with 1 if something could not be imported")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a paragraph for each task, and the counts."""
        chosen = bool(options["task"]) or options["name"] is not None
        if chosen == options["all"]:
            raise CommandError("Choose tasks by --task and --name, or take --all.", returncode=_USAGE)
        try:
            glob = "*" if options["name"] is None else options["name"]
            found = tables.read(options["database"], tasks=options["task"], glob=glob)
        except BeatError as error:
            raise CommandError(str(error)) from None
        if not getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True):
            self.stderr.write(
                "DJANGO_CELERY_BEAT_TZ_AWARE is off: beat does not heed the crontabs' time zones, and what is said of "
                "its firings below is wrong."
            )
        mapping = Mapping(**{name: options[name] for name in Mapping.__dataclass_fields__})
        dry_run = options["dry_run"]
        try:
            # All or none, in one transaction: after a partial import, it is unclear which tasks to disable in beat.
            with locks.bounded():
                if not dry_run:
                    duplicates.lock_imports()
                drafts, there, refused = self._show(found, mapping, options["firings"], options["paused"])
                if not dry_run:
                    _save(drafts)
        except RowBusy:
            raise CommandError("Another import is under way. Nothing was imported; try again.") from None
        self.stdout.write(
            f"{len(drafts):,} {'to import' if dry_run else 'imported'}, {there:,} there already, "
            f"{refused:,} not importable" + ("; nothing was changed." if dry_run else ".")
        )
        if not dry_run and any(draft.schedule.enabled for draft in drafts):
            self.stdout.write("Disable the imported tasks in beat now, or both fire; see --paused.")
        if refused and options["strict"]:
            raise CommandError(f"{refused:,} not importable, and --strict is given.")

    def _show(
        self, found: list[BeatTask], mapping: Mapping, firings: int, paused: bool
    ) -> tuple[list[Draft], int, int]:
        """Print all tasks. Returns the drafts to save, and the counts of existing and of refused ones."""
        now = database_now()
        drafts: dict[Hashable, Draft] = {}
        there = refused = 0
        for task in found:
            self.stdout.write(f"{task.name!r} runs {task.task!r}")
            try:
                draft = Draft.of(task, mapping, now=now, paused=paused)
            except NotImportable as error:
                self.stdout.write(f"  not importable: {error}\n\n")
                refused += 1
                continue
            if (same := _existing(draft, drafts)) is not None:
                there += 1
            else:
                drafts[duplicates.identity(draft)] = draft
            self._describe(draft, same)
            for line in compare(draft, firings):
                self.stdout.write(_firing(line))
            self.stdout.write("")
        return list(drafts.values()), there, refused

    def _describe(self, draft: Draft, same: str | None) -> None:
        schedule, task = draft.schedule, draft.task
        zone = f" ({schedule.timezone})" if schedule.cron else ""
        words = f": {schedule.in_words}" if schedule.cron and schedule.in_words else ""
        self.stdout.write(
            f"  report {schedule.report_id}, modifier {schedule.modifier_id}; {schedule.rule}{zone}{words}"
        )
        if schedule.day_note:
            self.stdout.write(f"  note: {schedule.day_note}")
        if same is not None:
            self.stdout.write(f"  there already: {same}")
        elif not schedule.enabled:
            self.stdout.write(
                "  paused" + ("" if task.enabled else ": it is disabled in beat; below, as if it were enabled now")
            )
        if task.message:
            self.stdout.write(f"  left behind: {', '.join(f'{name} {value!r}' for name, value in task.message)}")


def _existing(draft: Draft, drafts: dict[Hashable, Draft]) -> str | None:
    if (there := duplicates.existing_schedule(draft)) is not None:
        return f"schedule {there.pk}" + (
            "" if duplicates.same_start_and_end(draft, there) else ", with another start or end"
        )
    same = drafts.get(duplicates.identity(draft))
    return None if same is None else f"the same as {same.task.name!r}"


def _firing(line: Line) -> str:
    mark = "!" if line.beat != line.ours else "?" if line.why else " "
    who = "both" if line.beat and line.ours else "beat only" if line.beat else "ours only"
    why = f": {line.why}" if line.why else ""
    return (
        f"  {mark} {line.instant.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}  {line.reading:%Y-%m-%d %H:%M:%S %Z}  {who}{why}"
    )


def _save(drafts: list[Draft]) -> None:
    for draft in drafts:
        try:
            draft.schedule.save()
        except ValidationError as error:
            raise CommandError(f"{draft.task.name!r}: {in_words(error)} Nothing was imported.") from None


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not all(name.isidentifier() for name in names) or len(set(names)) < len(names):
        raise ArgumentTypeError(f"{text!r} is not a list of different names such as year,region")
    return names
