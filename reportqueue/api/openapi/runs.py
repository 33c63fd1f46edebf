"""The calls of consumers and of runs: claim, start, heartbeat, complete, fail, release; for one row and for several."""

from __future__ import annotations

from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.operations import Answer, Operation, Operations
from reportqueue.api.serializers import queue as shapes
from reportqueue.api.views import batch, queue

OF_OWNERS = ("invalid-state", "stale-lease")
BEAT = {"lease_expires_at": "2026-11-23T08:02:03Z", "cancel_requested": False}
OWNED = {"lease_token": examples.TOKEN}
BATCH = (
    "For a run that makes many reports. A wrong body is refused as a whole. Otherwise the answer has for each row what "
    "a call for that row alone would have answered: if `code` is not 200, `answer` is the problem document."
)
STARTED_IN_BATCH = {name: (examples.RUNNING | OWNED)[name] for name in shapes.StartedInBatchSerializer.Meta.fields}
OPERATIONS: Operations = {
    queue.ClaimView: {
        "POST": Operation(
            name="claim",
            tag="Consumers",
            summary="Acknowledge the last claim, and claim rows",
            text=(
                "The rows of the claim `ack` are acknowledged. Then due rows are claimed, up to `limit`. Until it is "
                "acknowledged, the same claim is the answer to the same consumer. An empty claim waits for up to "
                "`wait_seconds`: it returns as soon as a row is due. More than 100 rows end before their `limit` once "
                "their parameters and errors have 8 MiB. With `max_in_flight` or `max_unstarted` the answer has "
                "`in_flight` and `unstarted`."
            ),
            bodies=(shapes.ClaimBody,),
            examples={
                "the first": {"consumer": "sales_sensor", "limit": 25, "wait_seconds": 20},
                "the next": {"consumer": "sales_sensor", "ack": examples.CLAIM, "routes": ["default"]},
            },
            answers={
                200: Answer("The claim.", (forms.Claimed,), {"claim_id": examples.CLAIM, "queue": [examples.CLAIMED]})
            },
        ),
    },
    queue.StartView: {
        "POST": Operation(
            name="start",
            tag="Runs",
            summary="Start a row",
            text="The first run owns the row. A repeat by the same run gets the same answer; another run gets 409.",
            bodies=(shapes.StartBody,),
            examples={"a run": {"generation": 1, "run_id": "run-1", "worker": "host:7"}},
            answers={200: Answer("The row.", (shapes.StartedSerializer,), examples.RUNNING | OWNED)},
            refusals=("invalid-state", "erased", "held-by-another"),
        ),
    },
    queue.HeartbeatView: {
        "POST": Operation(
            name="heartbeat",
            tag="Runs",
            summary="Renew a lease",
            text="By the run that owns the row; or by a run that waits to start it, with `generation` and `run_id`.",
            bodies=(shapes.HeartbeatBody, shapes.RenewDispatchBody),
            examples={
                "by its owner": {**OWNED, "progress": "reading"},
                "by a run that waits": {"generation": 1, "run_id": "run-1"},
            },
            answers={200: Answer("The end of the lease.", (shapes.HeartbeatSerializer,), BEAT)},
            refusals=(*OF_OWNERS, "held-by-another"),
        ),
    },
    queue.CompleteView: {
        "POST": Operation(
            name="complete",
            tag="Runs",
            summary="Report success",
            bodies=(shapes.CompleteBody,),
            examples={"with a result": {**OWNED, "result": examples.SUCCEEDED["result"]}},
            answers={200: Answer("The row.", (shapes.ItemSerializer,), examples.SUCCEEDED)},
            refusals=OF_OWNERS,
        ),
    },
    queue.FailView: {
        "POST": Operation(
            name="fail",
            tag="Runs",
            summary="Report a failure",
            text=(
                "By the run that owns the row; or, with `generation` and `run_id`, for a run that ended without "
                "starting it. After `MAX_UNSTARTED_RUNS` such calls in a row the row fails; a call with `counts: "
                "false` is not one of them. The last 16 KiB of `error` are kept."
            ),
            bodies=(shapes.FailBody, shapes.FailLaunchBody),
            examples={
                "an attempt": {**OWNED, "error": "ConnectionError: no answer", "retry_after_seconds": 60},
                "a launch": {"generation": 1, "run_id": "run-1", "error": "The image was not found."},
            },
            answers={
                200: Answer(
                    "The row, queued again or failed.",
                    (shapes.ItemSerializer,),
                    examples.ROW | {"generation": 1, "run_key": "4711:1", "attempt": 1, "run_id": "run-1"},
                )
            },
            refusals=(*OF_OWNERS, "held-by-another"),
        ),
    },
    queue.ReleaseView: {
        "POST": Operation(
            name="release",
            tag="Runs",
            summary="Give a row back",
            text=(
                "By the run that owns the row, or by the consumer, with its `claim_id`, for a row that has not "
                "started. No attempt is used, unless the row was released more than `MAX_RELEASES` times. `begun` says "
                "whether the run had begun the report: if so, the second release and each later one delay the row."
            ),
            bodies=(shapes.ReleaseBody, shapes.ReleaseClaimedBody),
            examples={
                "by its run": {**OWNED, "delay_seconds": 60, "reason": "The machine is shutting down"},
                "by its consumer": {"claim_id": examples.CLAIM},
            },
            answers={200: Answer("The row, queued again.", (shapes.ItemSerializer,), examples.ROW)},
            refusals=OF_OWNERS,
        ),
    },
    batch.StartView: {
        "POST": Operation(
            name="start_many",
            tag="Runs",
            summary="Start several rows",
            text=BATCH,
            bodies=(batch.StartBody,),
            examples={
                "two rows": {"run_id": "run-1", "rows": [{"queue_id": n, "generation": 1} for n in (4711, 4712)]}
            },
            answers={
                200: Answer(
                    "An answer for each row.",
                    (forms.StartedRows,),
                    {
                        "rows": [
                            {"queue_id": 4711, "code": 200, "answer": STARTED_IN_BATCH},
                            {"queue_id": 4712, "code": 409, "answer": examples.REFUSED_ROW},
                        ]
                    },
                )
            },
        ),
    },
    batch.HeartbeatView: {
        "POST": Operation(
            name="heartbeat_many",
            tag="Runs",
            summary="Renew several leases",
            text=f"{BATCH} With `run_id`, for rows that wait for their run to start them.",
            bodies=(batch.HeartbeatBody, batch.RenewDispatchBody),
            examples={
                "by their owner": {"rows": [{"queue_id": 4711, **OWNED, "progress": "reading"}]},
                "by a run that waits": {"run_id": "run-1", "rows": [{"queue_id": 4711, "generation": 1}]},
            },
            answers={
                200: Answer(
                    "An answer for each row.",
                    (forms.BeatenRows,),
                    {"rows": [{"queue_id": 4711, "code": 200, "answer": BEAT}]},
                )
            },
        ),
    },
    batch.CompleteView: {
        "POST": Operation(
            name="complete_many",
            tag="Runs",
            summary="Report the success of several rows",
            text=f"{BATCH} A `result` beyond its bounds refuses its own row.",
            bodies=(batch.CompleteBody,),
            examples={"one row": {"rows": [{"queue_id": 4711, **OWNED, "result": {"pages": 3}}]}},
            answers={
                200: Answer(
                    "An answer for each row.",
                    (forms.CompletedRows,),
                    {"rows": [{"queue_id": 4711, "code": 200, "answer": {"status": "succeeded"}}]},
                )
            },
        ),
    },
}
