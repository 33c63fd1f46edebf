"""The verbs of a run, for several rows in one call. Each row has the answer that its own call would have had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import bounds, catalogue, queue
from reportqueue.api import problems
from reportqueue.api.base import ApiView
from reportqueue.api.serializers import queue as shapes
from reportqueue.errors import ReportQueueError
from reportqueue.models import ReportQueue


class Rows(serializers.ListField):
    """The rows of a call: from 1 to 100, none of them twice."""

    def __init__(self, shape: serializers.Serializer[Any]) -> None:
        super().__init__(child=shape, allow_empty=False)

    def to_internal_value(self, data: Any) -> Any:
        """Also refuse too many rows, before they are validated, and rows that are named twice."""
        if isinstance(data, list) and len(data) > bounds.MAX_BATCH_ROWS:
            raise serializers.ValidationError([f"At most {bounds.MAX_BATCH_ROWS} rows; this list has {len(data):,}."])
        rows = super().to_internal_value(data)
        seen: set[int] = set()
        for place, row in enumerate(rows):
            if row["queue_id"] in seen:
                text = f"Row {row['queue_id']} is in the list twice; name it once."
                raise serializers.ValidationError({place: {"queue_id": [text]}})  # type: ignore[dict-item]
            seen.add(row["queue_id"])
        return rows


class _Row(shapes.Body):
    queue_id = serializers.IntegerField(min_value=0, max_value=bounds.MAX_ID)


class _HandedOut(_Row):
    generation = shapes.number_field("generation")


class _Beating(_Row):
    lease_token = shapes.TokenField()
    progress = shapes.progress_field()


class _Made(_Row):
    lease_token = shapes.TokenField()
    result = serializers.JSONField(required=False, allow_null=True)  # an invalid one is the error of its row alone


class StartBody(shapes.StartBody):
    """A run starts its rows."""

    generation = None  # type: ignore[assignment]  # DRF's way to leave out an inherited field
    rows = Rows(_HandedOut())


class HeartbeatBody(shapes.Body):
    """A run is alive, with several rows."""

    lease_seconds = shapes.number_field("lease_seconds", required=False)
    rows = Rows(_Beating())


class RenewDispatchBody(shapes.RenewDispatchBody):
    """A run exists that waits to start these rows."""

    generation = None  # type: ignore[assignment]
    rows = Rows(_HandedOut())


class CompleteBody(shapes.Body):
    """A run has made these reports."""

    rows = Rows(_Made())


class StartView(ApiView):
    """`report-queue/start/`: a run starts its rows."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request) -> Response:
        """For each row the fields that a run needs, with its `lease_token`."""
        asked = self.body(request, StartBody)
        rows = asked.pop("rows")
        generations = {row["queue_id"]: row["generation"] for row in rows}
        results = queue.start_many(generations, user=self.user(request), **asked)
        catalogue.name_rows(row for row in results.values() if isinstance(row, ReportQueue))
        return _batch_response(rows, results, partial(shapes.shown, shapes.StartedInBatchSerializer))


class HeartbeatView(ApiView):
    """`report-queue/heartbeat/`: a run renews the leases of its rows."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request) -> Response:
        """For each row the end of its lease, and whether a person asked to cancel it."""
        if isinstance(request.data, dict) and "run_id" in request.data:
            asked = self.body(request, RenewDispatchBody)
            rows = asked.pop("rows")
            generations = {row["queue_id"]: row["generation"] for row in rows}
            results = queue.renew_dispatch_many(generations, user=self.user(request), **asked)
        else:
            asked = self.body(request, HeartbeatBody)
            rows = asked.pop("rows")
            progress = {row["queue_id"]: row["progress"] for row in rows if "progress" in row}
            results = queue.heartbeat_many(
                {row["queue_id"]: row["lease_token"] for row in rows}, progress=progress, **asked
            )
        return _batch_response(rows, results, partial(shapes.shown, shapes.HeartbeatSerializer))


class CompleteView(ApiView):
    """`report-queue/complete/`: a run has made reports."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request) -> Response:
        """For each row its status."""
        rows = self.body(request, CompleteBody)["rows"]
        results = queue.complete_many(
            {row["queue_id"]: row["lease_token"] for row in rows},
            results={row["queue_id"]: row.get("result") for row in rows},
        )
        return _batch_response(rows, results, lambda row: {"status": row.status})


def _batch_response(rows: Iterable[Any], results: queue.Results[Any], shown: Callable[[Any], Any]) -> Response:
    """Each row's answer, in the order of the request."""
    return Response({"rows": [_row_response(row["queue_id"], results[row["queue_id"]], shown) for row in rows]})


def _row_response(pk: int, answer: Any, shown: Callable[[Any], Any]) -> dict[str, Any]:
    if isinstance(answer, ReportQueueError | ValidationError):
        refusal = problems.answer(answer)
        assert refusal is not None  # noqa: S101  # every error of these families has an answer
        return {"queue_id": pk, "code": refusal.status_code, "answer": refusal.data}
    return {"queue_id": pk, "code": status.HTTP_200_OK, "answer": shown(answer)}
