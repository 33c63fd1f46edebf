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

from reportqueue import audit, bounds, bulk, catalogue, failures, modifiers, moving, queue
from reportqueue.clock import database_now
from reportqueue.errors import ReportQueueError
from reportqueue.management.arguments import instant, user_name, whole_number
from reportqueue.models import BulkAction, Report, ReportQueue
from reportqueue.models.queue import failed_like, unfinished
from reportqueue.models.report import ROUTE
from reportqueue.states import FINAL, TRANSITIONS, Source, Status, Verb

BATCH = 500
PROGRESS = 5_000
"""After so many rows a line says how far it is."""
LISTED = 50
REASONS_SHOWN = 10
STATEMENT_SECONDS = 30
STALLED, REFUSED, MISSING = 1, 1, 1
"""Exit codes. Options that make no sense have 2, as everywhere."""


@audit.by_command
class Command(BaseCommand):
    """Exit codes: 0 done; 1 stalled, something refused, or no such row; 2 options that make no sense."""

    help = (
        "Shows the queue and its rows, requeues and cancels reports, also in the background, and pauses the queue, a "
        "route or a report."
    )

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
            acting.add_argument("--reason", default="", help="kept with each row")
            how = acting.add_mutually_exclusive_group()
            how.add_argument("--dry-run", action="store_true", help="count, change nothing")
            how.add_argument("--background", action="store_true", help="let the scheduler do it, as a bulk action")
        orders = commands.add_parser("bulk", help="bulk actions: list them, show one, or pause, resume, stop, undo it")
        order = orders.add_subparsers(dest="order", required=True)
        order.add_parser("list", help="the newest 50")
        for name in ("show", *_ORDERS):
            ordered = order.add_parser(name, help=f"{name} a bulk action")
            ordered.add_argument("id", type=whole_number(0, bounds.MAX_ID), help="its number")
        for verb in ("pause", "resume"):
            pausing = commands.add_parser(verb, help=f"{verb} the queue, or with --route or --report a part of it")
            what = pausing.add_mutually_exclusive_group()
            what.add_argument("--route", type=_route, help="a route")
            what.add_argument("--report", type=_report_text, help="a report's number or name")
            if verb == "pause":
                pausing.add_argument("--note", default="", help="why, for others to read")

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
        if options["background"]:
            self._start(verb, options)
            return
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

    def _start(self, verb: Verb, options: dict[str, Any]) -> None:
        if options["ids"]:
            raise CommandError("With --background, give filters instead of numbers of rows.", returncode=2)
        given = {api: options[name] for name, api in _API_FILTERS.items() if options[name] not in (None, [])}
        if options["report"] is not None:
            given["report_id"] = _report(options["report"])
        for name in ("trigger_time_after", "trigger_time_before"):
            if name in given:
                given[name] = given[name].isoformat()
        action = bulk.start(verb, given, reason=options["reason"], by=user_name() or "manage.py")
        self.stdout.write(f"{action} is started: {_matched(action)}.")

    def _bulk(self, options: dict[str, Any]) -> None:
        try:
            if options["order"] == "list":
                for action in BulkAction.objects.order_by("-pk")[:LISTED]:
                    self.stdout.write(f"#{action.pk:<8} {action.verb:<8} {action.status:<10} {_progress(action)}")
                return
            if options["order"] == "show":
                action = bulk.get(options["id"])
            else:
                action = _ORDERS[options["order"]](options["id"], by=user_name() or "manage.py")
        except ReportQueueError as error:
            raise CommandError(str(error), returncode=REFUSED) from None
        self.stdout.write(f"{action}: {action.verb}, {action.status}, {_progress(action)}")
        by = action.requested_by or "somebody"
        self.stdout.write(
            f"  since {action.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ} by {by} {action.reason}".rstrip()
        )
        if action.undo_of_id is not None:
            self.stdout.write(f"  undoes bulk action {action.undo_of_id}")
        for label, value in bulk.words(action.filters):
            self.stdout.write(f"  {label}: {value}")
        for reason, count in action.refused.items():
            self.stdout.write(f"  {count:,} refused: {reason}")
        if action.problem:
            self.stdout.write(f"  paused by an error: {action.problem}")
        if action.waits_for_scheduler(database_now()):
            self.stdout.write("  waits for the scheduler (manage.py enqueue_due_reports --loop)")

    def _pause(self, options: dict[str, Any]) -> None:
        self.stdout.write(str(queue.pause(**_part(options), by=user_name(), note=options["note"])))

    def _resume(self, options: dict[str, Any]) -> None:
        resumed = queue.resume(**_part(options), by=user_name())
        self.stdout.write("Resumed." if resumed else "It was not paused.")


_ORDERS = {"pause": bulk.pause, "resume": bulk.resume, "stop": bulk.stop, "undo": bulk.undo}
_API_FILTERS = {
    "status": "status",
    "source": "source",
    "route": "route",
    "modifier": "modifier_id",
    "failure": "failure",
    "due_after": "trigger_time_after",
    "due_before": "trigger_time_before",
}
"""Options, and the filters of the API that they are."""
_FILTERS = ("ids", "status", "source", "route", "report", "modifier", "failure", "due_after", "due_before")
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
    *("idempotency_key", "params", "result", "fingerprint", "error"),
)


def _add_filters(parser: CommandParser) -> None:
    parser.add_argument("ids", nargs="*", type=whole_number(0, bounds.MAX_ID), metavar="ID", help="the numbers of rows")
    parser.add_argument("--status", action="append", choices=Status.values, help="may be repeated")
    parser.add_argument("--source", action="append", choices=Source.values, help="may be repeated")
    parser.add_argument("--route", action="append", type=_route, help="may be repeated")
    parser.add_argument("--report", type=_report_text, metavar="NUMBER or NAME", help="a report")
    parser.add_argument("--modifier", type=whole_number(0, bounds.MAX_ID), metavar="NUMBER", help="a modifier")
    parser.add_argument("--failure", type=_failure, metavar="FINGERPRINT", help="rows that failed alike: see `show`")
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
    if options["failure"] is not None:
        wanted &= failed_like(options["failure"])
    if options["status"] and not FINAL.intersection(options["status"]):
        wanted &= unfinished()  # as the conditions of the indexes are
    return ReportQueue.objects.filter(wanted)


def _matched(action: BulkAction) -> str:
    """How many rows it is about."""
    if action.total is None:
        return "an unknown number of rows"
    return f"{action.total:,}{' or more' if action.more else ''} rows"


def _progress(action: BulkAction) -> str:
    asked = f" ({action.asked:,} of them asked to end)" if action.asked else ""
    return f"{action.done:,} of {_matched(action)} done{asked}, {action.refused_count:,} refused"


def _part(options: dict[str, Any]) -> dict[str, Any]:
    """What is to be paused or resumed."""
    report = None if options["report"] is None else _report(options["report"])
    return {"route": options["route"] or "", "report_id": report}


def _report(text: str) -> int:
    """The number of a report. Raises `CommandError` for a name that no report has."""
    if text.isascii() and text.isdigit():
        return int(text)
    found = Report.objects.filter(name__iexact=text).first()
    if found is None:
        raise CommandError(f"The catalogue has no report {text!r}.", returncode=2)
    return found.pk


def _report_text(text: str) -> str:
    if not text or len(text) > bounds.MAX_NAME_LENGTH or (text.isdigit() and int(text) > bounds.MAX_ID):
        raise ArgumentTypeError(f"{text[:100]!r} is neither the number nor the name of a report")
    return text


def _failure(text: str) -> str:
    if not failures.is_fingerprint(text):
        raise ArgumentTypeError(f"{text[:100]!r} is no fingerprint: 16 digits, 0 to 9 and a to f")
    return text


def _route(text: str) -> str:
    if not ROUTE.fullmatch(text):
        raise ArgumentTypeError(f"{text[:100]!r} is no route")
    return text
