"""Which rows of the queue a command is for: its options, and the query that they mean."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Q, QuerySet

from reportqueue import bounds, catalogue, failures
from reportqueue.management.arguments import instant, plain_text, whole_number
from reportqueue.models import ReportQueue
from reportqueue.models.queue import failed_like, unfinished
from reportqueue.models.report import ROUTE
from reportqueue.states import FINAL, Source, Status

FILTERS = ("ids", "status", "source", "route", "report", "modifier", "failure", "due_after", "due_before")


def add_filters(parser: CommandParser) -> None:
    """The options that name rows."""
    parser.add_argument("ids", nargs="*", type=whole_number(0, bounds.MAX_ID), metavar="ID", help="the numbers of rows")
    parser.add_argument("--status", action="append", choices=Status.values, help="may be repeated")
    parser.add_argument("--source", action="append", choices=Source.values, help="may be repeated")
    parser.add_argument("--route", action="append", type=route, help="may be repeated")
    parser.add_argument("--report", type=report_text, metavar="NUMBER or NAME", help="a report")
    parser.add_argument("--modifier", type=whole_number(0, bounds.MAX_ID), metavar="NUMBER", help="a modifier")
    parser.add_argument("--failure", type=failure, metavar="FINGERPRINT", help="rows that failed alike: see `show`")
    parser.add_argument("--due-after", type=instant, metavar="INSTANT", help="such as 2026-12-01T08:00:00Z")
    parser.add_argument("--due-before", type=instant, metavar="INSTANT", help="rows that were due before it")


def rows_of(options: dict[str, Any]) -> QuerySet[ReportQueue]:
    """The rows that match. Raises `CommandError` for a name that no report has."""
    wanted = Q()
    for name, lookup in (
        *(("ids", "pk__in"), ("status", "status__in"), ("source", "source__in"), ("route", "route__in")),
        *(("modifier", "modifier_id"), ("due_after", "trigger_time__gte"), ("due_before", "trigger_time__lt")),
    ):
        if options[name] not in (None, []):
            wanted &= Q(**{lookup: options[name]})
    if options["report"] is not None:
        wanted &= Q(report_id=report_number(options["report"]))
    if options["failure"] is not None:
        wanted &= failed_like(options["failure"])
    if options["status"] and not FINAL.intersection(options["status"]):
        wanted &= unfinished()  # as the conditions of the indexes are
    return ReportQueue.objects.filter(wanted)


def report_number(text: str) -> int:
    """The number of a report. Raises `CommandError` for a name that no report has."""
    if (found := catalogue.number_of(text)) is None:
        raise CommandError(f"The catalogue has no report {text!r}.", returncode=2)
    return found


def report_text(text: str) -> str:
    """A parser of the number or the name of a report."""
    plain_text(text)
    if not text or len(text) > bounds.MAX_NAME_LENGTH or (text.isdigit() and int(text) > bounds.MAX_ID):
        raise ArgumentTypeError(f"{text[:100]!r} is neither the number nor the name of a report")
    return text


def failure(text: str) -> str:
    """A parser of the fingerprint of a failure."""
    if not failures.is_fingerprint(text):
        raise ArgumentTypeError(f"{text[:100]!r} is no fingerprint: 16 digits, 0 to 9 and a to f")
    return text


def route(text: str) -> str:
    """A parser of the name of a route."""
    if not ROUTE.fullmatch(text):
        raise ArgumentTypeError(f"{text[:100]!r} is no route")
    return text
