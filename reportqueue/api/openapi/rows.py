"""The calls of producers and of people on rows: list, enqueue, cancel, requeue; failures and pauses."""

from __future__ import annotations

from reportqueue import bounds
from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.operations import PAGES, TIME, Answer, ListOf, Operation, Operations, Parameter, page_of
from reportqueue.api.openapi.parameters import of_filters
from reportqueue.api.serializers import queue as shapes
from reportqueue.api.views import queue
from reportqueue.queue.failure_groups import DEFAULT_PERIOD, PERIODS
from reportqueue.row_filters import QueueFilter

FILTERS = {
    "status": "May be repeated.",
    "source": "May be repeated.",
    "processed": "Whether the rows are finished. The default is `false`, or `any` if there is a `status`.",
    "claimed_by": "A consumer; may be repeated. For lists of unfinished rows only.",
    "route": "May be repeated.",
    "report_id": "The report's number.",
    "report": "A number, or the name in the catalogue. A name that no report has is refused.",
    "modifier_id": "The modifier's number.",
    "schedule": "The id of the schedule that has enqueued the rows.",
    "failure": "The fingerprint of failed rows; it needs no `status`.",
    "trigger_time_after": "That instant included.",
    "trigger_time_before": "That instant excluded.",
}
NEW = {"report_id": 3, "modifier_id": 17, "params": {"year": 2026}}
ROW = Answer("The row.", (shapes.ItemSerializer,), examples.ROW)
OPERATIONS: Operations = {
    queue.QueueView: {
        "GET": Operation(
            name="list_rows",
            tag="Queue",
            summary="List rows",
            text=(
                "Unfinished rows are in claim order. If the chosen statuses include a final one, the whole list is in "
                "the order of `trigger_time`, the oldest first, then of ids. A page ends before its `limit` once the "
                "parameters, results and errors of its rows have 8 MiB."
            ),
            parameters=(*of_filters(QueueFilter, FILTERS), *PAGES),
            answers={200: page_of("queue", examples.ROW, "A page.", forms.RowPage, (TIME,))},
        ),
        "POST": Operation(
            name="enqueue",
            tag="Queue",
            summary="Enqueue one report or many",
            text=(
                f"One report, or a list of up to {bounds.MAX_BULK:,}, which is enqueued as a whole or not at all. What "
                "is left out comes from the catalogue. Parameters that do not fit the report's schema are refused. "
                "With an `idempotency_key`, the call may be repeated: this caller's key is known, and its first row is "
                'the answer. With `unique: "unfinished"`, an unfinished row with the same report, modifier and '
                "parameters is the answer, as it is."
            ),
            bodies=(shapes.EnqueueBody, ListOf(shapes.EnqueueBody, bounds.MAX_BULK)),
            examples={
                "one": {**NEW, "idempotency_key": "order-4711"},
                "several": [NEW, {"report_id": 3, "modifier_id": 18, "priority": 10, "unique": "unfinished"}],
            },
            parameters=(
                Parameter(
                    "Idempotency-Key",
                    {"type": "string", "minLength": 1, "maxLength": bounds.MAX_KEY_LENGTH},
                    "As the field `idempotency_key`, for one report.",
                    location="header",
                ),
                Parameter(
                    "traceparent",
                    {"type": "string"},
                    "The W3C trace context of the caller, which the rows keep. A value that is none is ignored.",
                    location="header",
                ),
            ),
            answers={
                200: Answer(
                    "Nothing was added: each key was known with the same content, or `unique` has found the report.",
                    (shapes.ItemSerializer, ListOf(shapes.ItemSerializer, bounds.MAX_BULK)),
                    examples.ROW,
                ),
                201: Answer(
                    "The row, or the rows in the order of the list.",
                    (shapes.ItemSerializer, ListOf(shapes.ItemSerializer, bounds.MAX_BULK)),
                    examples.ROW,
                ),
            },
            refusals=("idempotency-key-reused",),
        ),
    },
    queue.ItemView: {
        "GET": Operation(
            name="get_row",
            tag="Queue",
            summary="Read a row with its attempts",
            text="With its newest 500 attempts, and why it waits if it is queued.",
            answers={
                200: Answer(
                    "The row.",
                    (shapes.ItemWithAttemptsSerializer,),
                    {**examples.SUCCEEDED, "attempts": [examples.ATTEMPT], "waiting_reasons": []},
                )
            },
        ),
    },
    queue.CancelView: {
        "POST": Operation(
            name="cancel",
            tag="Queue",
            summary="Cancel a row",
            text=(
                "By a person or a program: a running row only gets `cancel_requested`, and its run stops at its next "
                "heartbeat. By the run that owns the row, with its `lease_token`: this needs `consume_reportqueue`."
            ),
            bodies=(shapes.CancelBody,),
            examples={"by a person": {"reason": "Not wanted"}, "by the run": {"lease_token": examples.TOKEN}},
            answers={
                200: Answer(
                    "The row.",
                    (shapes.ItemSerializer,),
                    examples.ROW
                    | {
                        "status": "cancelled",
                        "processed": True,
                        "finished_at": "2026-11-23T08:00:00Z",
                        "error": "Not wanted",
                    },
                )
            },
            refusals=("invalid-state", "stale-lease"),
        ),
    },
    queue.RequeueView: {
        "POST": Operation(
            name="requeue",
            tag="Queue",
            summary="Queue a finished row again",
            text="Its attempts and failed launches are counted from the beginning.",
            bodies=(shapes.RequeueBody,),
            examples={"with a reason": {"reason": "The source was down"}},
            answers={200: ROW},
            refusals=("invalid-state", "erased"),
        ),
    },
    queue.FailuresView: {
        "GET": Operation(
            name="list_failures",
            tag="Queue",
            summary="List failed rows, grouped by their error",
            text="At most 200 groups, and at most 200 muted ones. `count`, `first_at` and `last_at` are of the period.",
            parameters=(
                Parameter(
                    "period",
                    {"type": "string", "enum": list(PERIODS), "default": DEFAULT_PERIOD},
                    "Rows that failed so long ago at most.",
                ),
            ),
            answers={
                200: Answer(
                    "The groups.",
                    (forms.FailureGroups,),
                    {
                        "period": "24h",
                        "failures": [
                            {
                                "failure": "9f1c2b3a4d5e6f70",
                                "title": "ConnectionError: <address> does not answer",
                                "frame": "weather.py, in make",
                                "count": 340,
                                "first_at": "2026-11-23T01:00:00Z",
                                "last_at": "2026-11-23T05:59:00Z",
                                "example": 4711,
                                "reports": [{"report_id": 3, "report_name": "Sales by region"}],
                                "more_reports": False,
                                "muted": None,
                            }
                        ],
                        "complete": True,
                        "counted_up_to": 10000,
                    },
                )
            },
        ),
    },
    queue.PausesView: {
        "GET": Operation(
            name="list_pauses",
            tag="Pauses",
            summary="List what is paused",
            answers={200: Answer("All pauses.", (forms.Pauses,), {"pauses": [examples.PAUSE]})},
        ),
    },
    queue.PauseView: {
        "POST": Operation(
            name="pause",
            tag="Pauses",
            summary="Pause the queue, a route or a report",
            text="Without `route` and `report_id`, the whole queue. A pause that is there already is not changed.",
            bodies=(shapes.PauseBody,),
            examples={"a route": {"route": "default", "note": "Stocktaking"}},
            answers={200: Answer("The pause.", (shapes.PauseSerializer,), examples.PAUSE)},
        ),
    },
    queue.ResumeView: {
        "POST": Operation(
            name="resume",
            tag="Pauses",
            summary="End a pause",
            text="Without `route` and `report_id`, that of the whole queue.",
            bodies=(shapes.ResumeBody,),
            examples={"a route": {"route": "default"}},
            answers={200: Answer("Whether it was paused.", (forms.Resumed,), {"resumed": True})},
        ),
    },
}
