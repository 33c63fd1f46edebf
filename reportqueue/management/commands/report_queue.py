"""`manage.py report_queue`: look at the queue, and act on it, from a terminal."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q, QuerySet

from reportqueue import bounds, catalogue, modifiers, moving, queue
from reportqueue.errors import ReportQueueError
from reportqueue.management.arguments import instant, plain_text, user_name, whole_number
from reportqueue.models import Report, ReportQueue
from reportqueue.models.queue import unfinished
from reportqueue.models.report import ROUTE
from reportqueue.states import FINAL, TRANSITIONS, Source, Status, Verb

BATCH = 500
PROGRESS = 5_000
"""After so many rows a line says how far it is."""
REASONS_SHOWN = 10
STATEMENT_SECONDS = 30
STALLED, REFUSED, MISSING = 1, 1, 1
"""Exit codes. Options that make no sense have 2, as everywhere."""


class Command(BaseCommand):
    """Exit codes: 0 done; 1 stalled, something refused, or no such row; 2 options that make no sense."""

    help = "Shows the queue and its rows, requeues and cancels reports, and pauses the queue, a route or a report."

    def add_arguments(self, parser: CommandParser) -> None:
        """The commands, each with its options."""
        commands = parser.add_subparsers(dest="what", required=True)
        commands.add_parser("status", help="whether reports move, what waits, what is paused; exit code 1 if stalled")
        listed = commands.add_parser("list", help="rows, the newest first")
        _add_filters(listed)
        listed.add_argument("--limit", type=whole_number(1, 1_000), default=50, metavar="N", help="rows (default 50)")
        show = commands.add_parser("show", help="everything about one row")
        show.add_argument("id", type=whole_number(0, bounds.MAX_ID), help="the row's number")
        for verb, default in (("requeue", "failed"), ("cancel", "queued")):
            acting = commands.add_parser(
                verb, help=f"{verb} all rows that match (by default those that are {default}); at least one filter"
            )
            _add_filters(acting)
            acting.add_argument("--all", action="store_true", help="all rows, without a filter")
            acting.add_argument("--reason", type=plain_text, default="", help="kept with each row")
            acting.add_argument("--dry-run", action="store_true", help="count, change nothing")
        for verb in ("pause", "resume"):
            pausing = commands.add_parser(verb, help=f"{verb} the queue, or with --route or --report a part of it")
            what = pausing.add_mutually_exclusive_group()
            what.add_argument("--route", type=_route, help="a route")
            what.add_argument("--report", type=_report_text, help="a report's number or name")
            if verb == "pause":
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
            more = " or more" if count == moving.COUNTED else ""
            self.stdout.write(f"{name.replace('_', ' ')}: {count:,}{more}")
        for pause in queue.paused():
            self.stdout.write(f"paused: {pause}")
        for line in (*found.reasons, *found.warnings):
            self.stdout.write(f"! {line}")
        self.stdout.write("stalled" if found.reasons else "moving")
        if found.reasons:
            raise SystemExit(STALLED)

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(_rows(options).order_by("-trigger_time", "-id")[: options["limit"]])
        catalogue.name_rows(rows)
        modifiers.name_rows(rows)
        for row in rows:
            self.stdout.write(
                f"#{row.pk:<10} {row.status:<10} {row.trigger_time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}  "
                f"{catalogue.label(row.report_id, row.report_name)}, "
                f"modifier {catalogue.label(row.modifier_id, row.modifier_name)}, route {row.route}"
            )
        if not rows:
            self.stdout.write("No rows match.")
        elif len(rows) == options["limit"]:
            self.stdout.write(f"The newest {len(rows):,}; more with --limit.")

    def _show(self, options: dict[str, Any]) -> None:
        row = ReportQueue.objects.filter(pk=options["id"]).first()
        if row is None:
            raise CommandError(f"There is no row {options['id']}.", returncode=MISSING)
        catalogue.name_rows([row])
        modifiers.name_rows([row])
        report = catalogue.label(row.report_id, row.report_name)
        self.stdout.write(f"#{row.pk}: {report}, modifier {catalogue.label(row.modifier_id, row.modifier_name)}")
        for name in _SHOWN:
            value = getattr(row, name)
            if isinstance(value, datetime):
                value = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%fZ}"
            if value not in (None, ""):
                self.stdout.write(f"  {name}: {value}")
        for attempt in row.attempts.all():
            ended = f"{attempt.finished_at.astimezone(UTC):%H:%M:%SZ}" if attempt.finished_at else "under way"
            started = f"{attempt.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
            outcome = attempt.outcome or "running"
            self.stdout.write(f"  attempt {attempt.attempt}: {outcome}, run {attempt.run_id}, {started} to {ended}")
            if attempt.error:
                self.stdout.write(f"    {attempt.error.strip().splitlines()[-1][:200]}")

    def _requeue(self, options: dict[str, Any]) -> None:
        self._act(Verb.REQUEUE, queue.requeue, options, default=[Status.FAILED.value])

    def _cancel(self, options: dict[str, Any]) -> None:
        self._act(Verb.CANCEL, queue.cancel, options, default=[Status.QUEUED.value])

    def _act(
        self, verb: Verb, call: Callable[..., ReportQueue], options: dict[str, Any], *, default: list[str]
    ) -> None:
        """Do it to each row alone, in the order of the numbers: what is refused is counted, by its reason."""
        if not options["all"] and not any(options[name] for name in _FILTERS):
            raise CommandError(
                f"Say which rows: name some, give a filter such as --report, or --all for every one. {verb} would be "
                f"done to rows that are {' or '.join(options['status'] or default)}.",
                returncode=2,
            )
        bounds.validate_text(options["reason"])
        options["status"] = options["status"] or ([] if options["ids"] else default)
        rows = _rows(options)
        if options["dry_run"]:
            count = rows.filter(status__in=[str(status) for status in TRANSITIONS[verb]]).count()
            self.stdout.write(f"{count:,} of {rows.count():,} rows that match would be changed; nothing was changed.")
            return
        note = f"{verb} by {user_name() or 'somebody'} with manage.py" + (
            f": {options['reason']}" if options["reason"] else ""
        )
        done: Counter[str] = Counter()
        refused: dict[str, list[int]] = {}
        last = 0
        while pks := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
            for pk in pks:
                try:
                    done[call(pk, reason=note[: bounds.MAX_REASON_LENGTH]).status] += 1
                except ReportQueueError as error:
                    refused.setdefault(str(error), []).append(pk)
            last = pks[-1]
            if done.total() % PROGRESS < BATCH and done.total() >= PROGRESS:
                self.stderr.write(f"{done.total():,} done so far ...")
        said = [f"{count:,} {'asked to stop' if name == Status.RUNNING else name}" for name, count in done.items()]
        nothing = "nothing was changed" if refused else "no rows match"
        self.stdout.write(f"{verb}: {', '.join(said) or nothing}.")
        for reason, pks in list(refused.items())[:REASONS_SHOWN]:
            self.stderr.write(f"{len(pks):,} refused, first #{pks[0]}: {reason}")
        if refused:
            raise SystemExit(REFUSED)

    def _pause(self, options: dict[str, Any]) -> None:
        self.stdout.write(str(queue.pause(**_part(options), by=user_name(), note=options["note"])))

    def _resume(self, options: dict[str, Any]) -> None:
        resumed = queue.resume(**_part(options), by=user_name())
        self.stdout.write("Resumed." if resumed else "It was not paused.")


_FILTERS = ("ids", "status", "source", "route", "report", "modifier", "due_after", "due_before")
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
    ),
    *("generation", "attempt", "max_attempts", "launch_failures", "unstarted_runs", "releases", "alone", "waiting"),
    *("claimed_by", "claimed_at", "dispatched_at", "started_at", "finished_at", "lease_expires_at", "run_id"),
    *("idempotency_key", "params", "result", "error"),
)


def _add_filters(parser: CommandParser) -> None:
    parser.add_argument("ids", nargs="*", type=whole_number(0, bounds.MAX_ID), metavar="ID", help="the numbers of rows")
    parser.add_argument("--status", action="append", choices=Status.values, help="may be repeated")
    parser.add_argument("--source", action="append", choices=Source.values, help="may be repeated")
    parser.add_argument("--route", action="append", type=_route, help="may be repeated")
    parser.add_argument("--report", type=_report_text, metavar="NUMBER or NAME", help="a report")
    parser.add_argument("--modifier", type=whole_number(0, bounds.MAX_ID), metavar="NUMBER", help="a modifier")
    parser.add_argument("--due-after", type=instant, metavar="INSTANT", help="such as 2026-12-01T08:00:00Z")
    parser.add_argument("--due-before", type=instant, metavar="INSTANT", help="rows that were due before it")


def _rows(options: dict[str, Any]) -> QuerySet[ReportQueue]:
    """The rows that match. Raises `CommandError` for a name that no report has."""
    wanted = Q()
    for name, lookup in (
        *(("ids", "pk__in"), ("status", "status__in"), ("source", "source__in"), ("route", "route__in")),
        *(("modifier", "modifier_id"), ("due_after", "trigger_time__gte"), ("due_before", "trigger_time__lt")),
    ):
        if options[name] not in (None, []):
            wanted &= Q(**{lookup: options[name]})
    if options["report"] is not None:
        wanted &= Q(report_id=_report(options["report"]))
    if options["status"] and not FINAL.intersection(options["status"]):
        wanted &= unfinished()  # as the conditions of the indexes are
    return ReportQueue.objects.filter(wanted)


def _part(options: dict[str, Any]) -> dict[str, Any]:
    """What is to be paused or resumed."""
    report = None if options["report"] is None else _report(options["report"])
    return {"route": options["route"] or "", "report_id": report}


def _report(text: str) -> int:
    """The number of a report. Raises `CommandError` for a name that no report has."""
    if text.isascii() and text.isdigit():
        return int(text)
    found = Report.objects.called(text).first()
    if found is None:
        raise CommandError(f"The catalogue has no report {text!r}.", returncode=2)
    return found.pk


def _report_text(text: str) -> str:
    plain_text(text)
    if not text or len(text) > bounds.MAX_NAME_LENGTH or (text.isdigit() and int(text) > bounds.MAX_ID):
        raise ArgumentTypeError(f"{text[:100]!r} is neither the number nor the name of a report")
    return text


def _route(text: str) -> str:
    if not ROUTE.fullmatch(text):
        raise ArgumentTypeError(f"{text[:100]!r} is no route")
    return text
