"""The calls of bulk actions."""

from __future__ import annotations

from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.operations import PAGES, Answer, Operation, Operations, page_of
from reportqueue.api.serializers import bulk as shapes
from reportqueue.api.views import bulk

BY_VERB = "Needs the permission of the action's verb: `requeue_reportqueue` or `cancel_reportqueue`."
ACTION = Answer("The action.", (shapes.BulkSerializer,), examples.BULK)


def _order(name: str, summary: str, status: str) -> Operation:
    """An order on an action, which has this status then."""
    return Operation(
        name=f"{name}_bulk_action",
        tag="Bulk actions",
        summary=summary,
        text=BY_VERB,
        bodies=(shapes.OrderBody,),
        examples={"nothing": {}},
        answers={200: Answer("The action.", (shapes.BulkSerializer,), examples.BULK | {"status": status})},
        refusals=("bulk-action-refused",),
    )


OPERATIONS: Operations = {
    bulk.BulkView: {
        "GET": Operation(
            name="list_bulk_actions",
            tag="Bulk actions",
            summary="List bulk actions",
            parameters=PAGES,
            answers={200: page_of("bulk_actions", examples.BULK, "A page, the newest first.", forms.BulkPage)},
        ),
        "POST": Operation(
            name="start_bulk_action",
            tag="Bulk actions",
            summary="Requeue or cancel all rows that match",
            text=(
                f"{BY_VERB} It is done in the background. `filters` takes the filters of `GET report-queue/`, with the "
                "same names and values: a text, a number, or a list if the filter may be repeated. Without any filter, "
                "`all` must be true. With `dry_run` nothing is made."
            ),
            bodies=(shapes.BulkBody,),
            examples={
                "one failure": {"verb": "requeue", "filters": {"failure": "9f1c2b3a4d5e6f70"}},
                "what it would do": {"verb": "cancel", "filters": {"status": ["queued"]}, "dry_run": True},
            },
            answers={
                200: Answer(
                    "With `dry_run`: what it would be done to.",
                    (forms.BulkPreview,),
                    {
                        "verb": "cancel",
                        "filters": {"status": ["queued"]},
                        "total": 12,
                        "more": False,
                        "counts": {"queued": 12},
                    },
                ),
                202: ACTION,
            },
            refusals=("idempotency-key-reused",),
        ),
    },
    bulk.BulkActionView: {
        "GET": Operation(
            name="get_bulk_action",
            tag="Bulk actions",
            summary="Read a bulk action",
            answers={200: ACTION},
        ),
    },
    bulk.PauseView: {"POST": _order("pause", "Pause a bulk action", "paused")},
    bulk.ResumeView: {"POST": _order("resume", "Let a bulk action go on", "waiting")},
    bulk.StopView: {"POST": _order("stop", "Stop a bulk action; what it has done stays done", "cancelled")},
    bulk.UndoView: {
        "POST": Operation(
            name="undo_bulk_action",
            tag="Bulk actions",
            summary="Undo a bulk action",
            text="Another action does the other verb and needs its permission. One that is there is the answer.",
            bodies=(shapes.UndoBody,),
            examples={"with a reason": {"reason": "The wrong filter"}},
            answers={
                202: Answer(
                    "The action that undoes it.",
                    (shapes.BulkSerializer,),
                    examples.BULK | {"bulk_id": 6, "verb": "cancel", "filters": {}, "undo_of": 5},
                )
            },
            refusals=("bulk-action-refused",),
        ),
    },
}
