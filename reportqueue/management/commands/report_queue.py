"""`manage.py report_queue`: look at the queue, and act on it, from a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from reportqueue import audit, bounds, catalogue, modifiers, moving, queue
from reportqueue.clock import database_now
from reportqueue.lines import counted, cut, last_line
from reportqueue.management import bulk_orders, row_actions, row_lists
from reportqueue.management.arguments import plain_text, user_name, whole_number
from reportqueue.management.row_actions import some
from reportqueue.management.row_filters import FILTERS, add_filters, report_number, report_text, route, rows_of
from reportqueue.models import ReportQueue
from reportqueue.states import Status, Verb
from reportqueue.waiting_reasons import why_waiting

PROGRESS = 5_000
"""After so many rows a line says how far it is."""
REASONS_SHOWN = 10
ERROR_SHOWN = 200
STATEMENT_SECONDS = 30
STALLED, REFUSED, MISSING = 1, 1, 1
"""Exit codes. Options that make no sense have 2, as everywhere."""
DEFAULTS = {Verb.REQUEUE: Status.FAILED, Verb.CANCEL: Status.QUEUED}
"""On which rows a verb acts if neither their numbers nor their status are given."""


@audit.by_command
class Command(BaseCommand):
    """Exit codes: 0 done; 1 stalled, something refused, or no such row; 2 options that make no sense."""

    help = "Shows the queue and its rows, requeues and cancels reports, and pauses the queue, a route or a report."

    def add_arguments(self, parser: CommandParser) -> None:
        """The commands, each with its options."""
        commands = parser.add_subparsers(dest="what", required=True)
        commands.add_parser("status", help="whether reports move, what waits, what is paused; exit code 1 if stalled")
        listed = commands.add_parser("list", help="rows, the newest first")
        add_filters(listed)
        listed.add_argument("--limit", type=whole_number(1, 1_000), default=50, metavar="N", help="rows (default 50)")
        listed.add_argument("--format", choices=row_lists.FORMATS, default=row_lists.TABLE, help="default: a table")
        show = commands.add_parser("show", help="everything about one row")
        show.add_argument("id", type=whole_number(0, bounds.MAX_ID), help="the row's number")
        for verb, status in DEFAULTS.items():
            acting = commands.add_parser(
                verb,
                help=f"{verb} the rows that you name, whatever their status, or all that match at least one filter: "
                f"those that are {status}, unless you say --status",
            )
            add_filters(acting)
            acting.add_argument("--all", action="store_true", help="all rows, without a filter")
            acting.add_argument("--reason", type=plain_text, default="", help="kept with each row")
            how = acting.add_mutually_exclusive_group()
            how.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
            how.add_argument("--background", action="store_true", help="let the scheduler do it, as a bulk action")
        bulk_orders.add_orders(
            commands.add_parser("bulk", help="bulk actions: list them, show one, or pause, resume, stop, undo it")
        )
        for name in ("pause", "resume"):
            pausing = commands.add_parser(name, help=f"{name} the queue, or with --route or --report a part of it")
            what = pausing.add_mutually_exclusive_group()
            what.add_argument("--route", type=route, help="a route")
            what.add_argument("--report", type=report_text, help="a report's number or name")
            if name == "pause":
                pausing.add_argument("--note", type=plain_text, default="", help="why, for others to read")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the command."""
        what = options["what"]
        try:
            getattr(self, f"_{what}")(options)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from None

    def _status(self, options: dict[str, Any]) -> None:
        found = moving.state(STATEMENT_SECONDS)
        for name, count in found.counts.items():
            self._say_count(name.replace("_", " "), count)
            if name == "due" and count:
                self._say_count("held by pauses and limits", moving.held(STATEMENT_SECONDS))
        for pause in found.pauses:
            self.stdout.write(f"paused: {pause}")
        for line in (*found.reasons, *found.warnings):
            self.stdout.write(f"! {line}")
        self.stdout.write("stalled" if found.reasons else "moving")
        if found.reasons:
            raise SystemExit(STALLED)

    def _say_count(self, name: str, count: int) -> None:
        self.stdout.write(f"{name}: {counted(count, more=count == moving.COUNTED)}")

    def _list(self, options: dict[str, Any]) -> None:
        limit = options["limit"]
        found = list(rows_of(options).order_by("-trigger_time", "-id").defer("params", "result")[: limit + 1])
        rows = found[:limit]
        catalogue.name_rows(rows)
        modifiers.name_rows(rows)
        self.stdout.write(row_lists.shown(rows, options["format"], database_now()), ending="")
        if not rows and options["format"] == row_lists.TABLE:
            self.stdout.write("No rows match.")
        if len(found) > limit:
            self.stderr.write(f"The newest {limit:,}; more with --limit.")

    def _show(self, options: dict[str, Any]) -> None:
        row = ReportQueue.objects.filter(pk=options["id"]).first()
        if row is None:
            raise CommandError(f"There is no row {options['id']}.", returncode=MISSING)
        catalogue.name_rows([row])
        modifiers.name_rows([row])
        report = catalogue.label(row.report_id, row.report_name)
        self.stdout.write(f"#{row.pk}: {report}, modifier {modifiers.label(row)}")
        for name in _SHOWN:
            value = getattr(row, name)
            if isinstance(value, datetime):
                value = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%fZ}"
            elif isinstance(value, dict):
                value = json.dumps(value, ensure_ascii=False)
            if value not in (None, ""):
                self.stdout.write(f"  {_label(row, name)}: {value}")
            if name == "status":
                for why in why_waiting(row):
                    self.stdout.write(f"  waits: {why}")
        for attempt in row.attempts.all():
            ended = f"{attempt.finished_at.astimezone(UTC):%H:%M:%SZ}" if attempt.finished_at else "under way"
            started = f"{attempt.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
            outcome = attempt.outcome or "running"
            self.stdout.write(
                f"  attempt {attempt.attempt} (generation {attempt.generation}): {outcome}, run {attempt.run_id}, "
                f"{started} to {ended}"
            )
            if attempt.error:
                self.stdout.write(f"    {cut(last_line(attempt.error), ERROR_SHOWN)}")

    def _requeue(self, options: dict[str, Any]) -> None:
        self._act(Verb.REQUEUE, queue.requeue, options)

    def _cancel(self, options: dict[str, Any]) -> None:
        self._act(Verb.CANCEL, queue.cancel, options)

    def _act(self, verb: Verb, call: Callable[..., ReportQueue], options: dict[str, Any]) -> None:
        """Do it to each row alone, in the order of the numbers: what is refused is named, by its reason."""
        default = DEFAULTS[verb]
        if not options["all"] and not any(options[name] for name in FILTERS):
            raise CommandError(
                f"Say which rows: name some, give a filter such as --report, or --all for every one. {verb} would be "
                f"done to rows that are {' or '.join(options['status'] or [default])}.",
                returncode=2,
            )
        bounds.validate_text(options["reason"])
        hint = "" if options["status"] or options["ids"] else "; --status chooses others"
        options["status"] = options["status"] or ([] if options["ids"] else [default.value])
        # Rows that somebody has named are done whatever their status: those that cannot be are refused by name.
        kind = f"{' or '.join(options['status'])} row".strip()
        if options["background"]:
            bulk_orders.start(verb, options, self.stdout)
            return
        rows = rows_of(options)
        failed = self._say_unmatched(
            options["ids"], set(rows.values_list("pk", flat=True)) if options["ids"] else set()
        )
        if options["dry_run"]:
            failed |= self._preview(row_actions.preview(rows, verb), verb, kind, hint)
        else:
            note = f"{verb} by {user_name() or 'somebody'} with manage.py" + (
                f": {options['reason']}" if options["reason"] else ""
            )
            done = row_actions.act(rows, verb, call, self._progress, reason=note[: bounds.MAX_REASON_LENGTH])
            failed |= self._say_done(done, verb, kind, hint)
        if failed:
            raise SystemExit(REFUSED)

    def _progress(self, count: int) -> None:
        if count >= PROGRESS and count % PROGRESS < row_actions.BATCH:
            self.stderr.write(f"{count:,} done so far ...")

    def _say_unmatched(self, named: list[int], matching: set[int]) -> bool:
        """Say which of the rows that were named are not among those that match; whether there are such."""
        others = sorted(set(named) - matching)
        there = set(ReportQueue.objects.filter(pk__in=others).values_list("pk", flat=True)) if others else set()
        if missing := [pk for pk in others if pk not in there]:
            self.stderr.write(f"There {'is no row' if len(missing) == 1 else 'are no rows'} {some(missing)}.")
        if there:
            self.stderr.write(f"Not done, since the filters do not match: {some(sorted(there))}.")
        return bool(others)

    def _preview(self, found: row_actions.Preview, verb: Verb, kind: str, hint: str) -> bool:
        said = "nothing was changed"
        if not found.matching:
            self.stdout.write(f"would {verb} nothing: no {kind}s match{hint}; {said}.")
            return False
        of = f"{found.changed:,} of {found.matching:,} {kind}{'s' if found.matching > 1 else ''}"
        named = f": {some(found.first, found.changed)}" if found.first else ""
        asked = f" ({found.running:,} running: asked to stop)" if found.running else ""
        self.stdout.write(f"would {verb} {of}{named}{asked}; {said}.")
        if found.already:
            self.stdout.write(f"already {row_actions.PARTICIPLES[verb]}: {some(found.already)}.")
        for reason, pks in found.refused.items():
            count = found.refused_rows[reason]
            self.stderr.write(f"{count:,} would be refused ({some(pks, count)}): {reason}")
        return bool(found.refused)

    def _say_done(self, found: row_actions.Done, verb: Verb, kind: str, hint: str) -> bool:
        said = [
            f"{count:,} {'asked to stop' if name == Status.RUNNING else name}" for name, count in found.done.items()
        ]
        if count := len(found.already):
            participle = row_actions.PARTICIPLES[verb]
            said.append(f"{count:,} {'was' if count == 1 else 'were'} {participle} already ({some(found.already)})")
        nothing = "nothing was changed" if found.refused else f"no {kind}s match{hint}"
        self.stdout.write(f"{verb}: {', '.join(said) or nothing}.")
        for reason, pks in list(found.refused.items())[:REASONS_SHOWN]:
            self.stderr.write(f"{len(pks):,} refused ({some(pks)}): {reason}")
        return bool(found.refused)

    def _bulk(self, options: dict[str, Any]) -> None:
        bulk_orders.do(options, self.stdout)

    def _pause(self, options: dict[str, Any]) -> None:
        pause = queue.pause(**_part(options), by=user_name(), note=options["note"])
        if not pause.was_there:
            self.stdout.write(str(pause))
        else:
            kept = (
                " Its note stays: resume it first to give another one."
                if options["note"] not in ("", pause.note)
                else ""
            )
            self.stdout.write(f"It was paused already: {pause}.{kept}")
        if doubt := queue.doubt(pause):
            self.stderr.write(doubt)

    def _resume(self, options: dict[str, Any]) -> None:
        resumed = queue.resume(**_part(options), by=user_name())
        self.stdout.write("Resumed." if resumed else "It was not paused.")


_SHOWN = (
    *(
        "status",
        "source",
        "route",
        "priority",
        "trigger_time",
        "available_at",
        "expires_at",
        "deadline_at",
        "created_at",
        "schedule_id",
        "queued_by",
        "fingerprint",
    ),
    *("generation", "attempt", "max_attempts", "launch_failures", "unstarted_runs", "releases", "alone", "waiting"),
    *(
        "claimed_by",
        "claimed_at",
        "dispatched_at",
        "started_at",
        "finished_at",
        "erased_at",
        "lease_expires_at",
        "run_id",
    ),
    *("idempotency_key", "params", "result", "error"),
)


def _label(row: ReportQueue, name: str) -> str:
    """The name of a field. What is stored as an error is a reason if no attempt has failed with it."""
    if name != "error" or row.status in (Status.FAILED, Status.SUCCEEDED):
        return name
    if row.status in (Status.CANCELLED, Status.SKIPPED) or row.cancel_requested or not row.attempt:
        return "reason"
    return "last error"


def _part(options: dict[str, Any]) -> dict[str, Any]:
    """What is to be paused or resumed."""
    report = None if options["report"] is None else report_number(options["report"])
    return {"route": options["route"] or "", "report_id": report}
