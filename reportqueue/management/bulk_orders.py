"""Bulk actions from a terminal: started with the filters of `report_queue`, listed, shown, and given orders."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.base import OutputWrapper as Output

from reportqueue import bounds, bulk
from reportqueue.clock import database_now
from reportqueue.errors import ReportQueueError
from reportqueue.lines import counted
from reportqueue.management.arguments import user_name, whole_number
from reportqueue.management.row_filters import report_number
from reportqueue.models import BulkAction
from reportqueue.states import Verb

LISTED = 50
REFUSED = 1
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


def add_orders(parser: CommandParser) -> None:
    """The orders, each with its options."""
    orders = parser.add_subparsers(dest="order", required=True)
    orders.add_parser("list", help=f"the newest {LISTED}")
    for name in ("show", *_ORDERS):
        ordered = orders.add_parser(name, help=f"{name} a bulk action")
        ordered.add_argument("id", type=whole_number(0, bounds.MAX_ID), help="its number")


def start(verb: Verb, options: dict[str, Any], out: Output) -> None:
    """Start a bulk action with the filters that were given. Raises `CommandError` for numbers of rows."""
    if options["ids"]:
        raise CommandError("With --background, give filters instead of numbers of rows.", returncode=2)
    given = {api: options[name] for name, api in _API_FILTERS.items() if options[name] not in (None, [])}
    if options["report"] is not None:
        given["report_id"] = report_number(options["report"])
    for name in ("trigger_time_after", "trigger_time_before"):
        if name in given:
            given[name] = given[name].isoformat()
    action = bulk.start(verb, given, reason=options["reason"], by=user_name() or "manage.py")
    out.write(f"{action} is started: {_matched(action)}.")


def do(options: dict[str, Any], out: Output) -> None:
    """List bulk actions, or show one after the order was given to it. Raises `CommandError` for a refused order."""
    if options["order"] == "list":
        for action in BulkAction.objects.order_by("-pk")[:LISTED]:
            out.write(f"#{action.pk:<8} {action.verb:<8} {action.status:<10} {_progress(action)}")
        return
    try:
        if options["order"] == "show":
            action = bulk.get(options["id"])
        else:
            action = _ORDERS[options["order"]](options["id"], by=user_name() or "manage.py")
    except ReportQueueError as error:
        raise CommandError(str(error), returncode=REFUSED) from None
    _show(action, out)


def _show(action: BulkAction, out: Output) -> None:
    out.write(f"{action}: {action.verb}, {action.status}, {_progress(action)}")
    by = action.requested_by or "somebody"
    out.write(f"  since {action.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ} by {by} {action.reason}".rstrip())
    if action.undo_of_id is not None:
        out.write(f"  undoes bulk action {action.undo_of_id}")
    for label, value in bulk.words(action.filters):
        out.write(f"  {label}: {value}")
    for reason, count in action.refused.items():
        out.write(f"  {count:,} refused: {reason}")
    if action.problem:
        out.write(f"  paused by an error: {action.problem}")
    if action.waits_for_scheduler(database_now()):
        out.write("  waits for the scheduler (manage.py enqueue_due_reports --loop)")


def _matched(action: BulkAction) -> str:
    """How many rows it is about."""
    if action.total is None:
        return "an unknown number of rows"
    return f"{counted(action.total, more=action.more)} rows"


def _progress(action: BulkAction) -> str:
    asked = f" ({action.asked:,} of them asked to end)" if action.asked else ""
    return f"{action.done:,} of {_matched(action)} done{asked}, {action.refused_count:,} refused"
