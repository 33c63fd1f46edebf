"""The calls of sensors that evaluate the schedules or poll, the deliveries of other systems, and this document."""

from __future__ import annotations

from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.operations import IF_NONE_MATCH, TIME, Answer, Header, Operation, Operations, Parameter
from reportqueue.api.openapi.runs import OWNED
from reportqueue.api.serializers import queue as shapes
from reportqueue.api.views import schema, sensors, webhooks
from reportqueue.patterns import SENSOR_FIRED

VERSION = Header("ETag", "The version of the list, a weak one. Send it as `If-None-Match`.", 'W/"9f1c2b3a4d5e6f70"')
OF_FIRINGS = ("firing-refused", "too-early")
FIRING = {"trigger_time": "2026-11-23T08:00:00Z"}
OPERATIONS: Operations = {
    sensors.ReportsView: {
        "GET": Operation(
            name="get_feed",
            tag="Sensors",
            summary="List every schedule with a cron expression",
            text=(
                "For clients that evaluate the expressions themselves; the list has no pages. With `pattern` the "
                "answer is what the pattern's sensor must fire: only enabled, plain schedules, and the periods that "
                "the pattern owns. Firings up to `Reportqueue-Time` are due."
            ),
            parameters=(
                Parameter(
                    "pattern", {"type": "string", "enum": sorted(SENSOR_FIRED)}, "Only what its sensor must fire."
                ),
                IF_NONE_MATCH,
            ),
            answers={
                200: Answer(
                    "The list.",
                    (forms.Feed,),
                    {
                        "version": "9f1c2b3a4d5e6f70",
                        "reports": [
                            {
                                "schedule_id": 12,
                                "report_id": 3,
                                "modifier_id": 17,
                                "cron": "0 8 * * MON",
                                "timezone": "Europe/Paris",
                                "enabled": True,
                                "priority": 0,
                                "params": {"year": 2026},
                                "next_run_at": "2026-11-30T07:00:00Z",
                            }
                        ],
                    },
                    (VERSION, TIME),
                ),
                304: Answer("Nothing has changed since the version in `If-None-Match`.", headers=(VERSION, TIME)),
            },
            refusals=("feed-too-large",),
        ),
    },
    sensors.StartFiringView: {
        "POST": Operation(
            name="start_firing",
            tag="Sensors",
            summary="Start the row of a firing",
            text="By a run that a sensor has launched. If there is no row, the call makes it.",
            bodies=(shapes.StartFiringBody,),
            examples={"a run": {**FIRING, "run_id": "run-1"}},
            answers={200: Answer("The row.", (shapes.StartedSerializer,), examples.RUNNING | OWNED)},
            refusals=(*OF_FIRINGS, "invalid-state", "held-by-another"),
        ),
    },
    sensors.QueueFiringView: {
        "POST": Operation(
            name="queue_firing",
            tag="Sensors",
            summary="Queue a firing whose run ended before it started its row",
            text="If the row exists already, the call does not change it.",
            bodies=(shapes.QueueFiringBody,),
            examples={"a firing": FIRING},
            answers={200: Answer("The row.", (shapes.ItemSerializer,), examples.ROW | {"schedule_id": 12})},
            refusals=OF_FIRINGS,
        ),
    },
    sensors.PendingView: {
        "GET": Operation(
            name="list_pending",
            tag="Sensors",
            summary="List due, unclaimed rows",
            text="In claim order, at most 1,000. `generation` and `run_key` are those of the row's next launch.",
            answers={
                200: Answer(
                    "The rows.",
                    (forms.Pending,),
                    {
                        "pending": [
                            {
                                "id": 4711,
                                "report_id": 3,
                                "modifier_id": 17,
                                "trigger_time": "2026-11-23T08:00:00Z",
                                "processed": False,
                                "schedule_id": None,
                                "generation": 1,
                                "run_key": "4711:1",
                            }
                        ]
                    },
                )
            },
        ),
    },
    sensors.MarkProcessedView: {
        "POST": Operation(
            name="mark_processed",
            tag="Sensors",
            summary="Mark a row as processed",
            text="Once Dagster has safely stored its run. The queue does not follow the run. A repeat changes nothing.",
            bodies=(shapes.Body,),
            examples={"nothing": {}},
            answers={200: Answer("It is processed.", (forms.Processed,), {"id": 4711, "processed": True})},
            refusals=("invalid-state", "held-by-another"),
        ),
    },
    schema.SchemaView: {
        "GET": Operation(
            name="get_schema",
            tag="Schema",
            summary="Read this document",
            text="Needs credentials and no permission.",
            answers={200: Answer("OpenAPI 3.1.", (forms.Document,), {"openapi": "3.1.0", "info": {}, "paths": {}})},
        ),
    },
    webhooks.WebhookView: {
        "POST": Operation(
            name="deliver",
            tag="Webhooks",
            summary="Deliver a webhook",
            text=(
                "A delivery by the Standard Webhooks specification: its signature identifies the sender. The payload "
                "is what the source sends; the source's paths say what is taken from it."
            ),
            examples={"an order": {"data": {"customer": 17, "order": 4711}}},
            parameters=tuple(
                Parameter(name, {"type": "string"}, text, location="header", required=True)
                for name, text in (
                    ("webhook-id", "The delivery's id."),
                    ("webhook-timestamp", "Seconds since 1970, at most five minutes off."),
                    ("webhook-signature", "`v1,` and the HMAC-SHA256 of id, timestamp and payload, in Base64."),
                )
            ),
            answers={
                200: Answer(
                    "The delivery is known with the same payload: its first row.",
                    (forms.Delivered,),
                    {"queue_id": 4711, "status": "succeeded"},
                ),
                201: Answer("A row was made.", (forms.Delivered,), {"queue_id": 4711, "status": "queued"}),
            },
            refusals=("bad-signature", "idempotency-key-reused", "not-found"),
        ),
    },
}
