"""The endpoints of the queue: each parses the request, calls one function of `queue`, and answers."""

from __future__ import annotations

import time
from typing import Any, NoReturn

from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import bounds, measures, queue, schedules, triggers
from reportqueue.api import filters, permissions, problems
from reportqueue.api.base import ApiView, told_time
from reportqueue.api.serializers import queue as shapes
from reportqueue.clock import database_now
from reportqueue.conf import conf
from reportqueue.models import ReportQueue
from reportqueue.patterns import Pattern
from reportqueue.queue.failure_groups import COUNTED, DEFAULT_PERIOD, PERIODS
from reportqueue.states import Source
from reportqueue.wakeup import claims

MEASURES_WAIT = 60
"""For so many seconds a claim leaves it to the scheduler to measure a period that has ended."""


class UnknownEndpoint(ApiView):
    """Any other path below the API: a problem document rather than a web page."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        """404 for every method and every caller."""
        raise problems.UnknownPath(request.path)


class QueueView(ApiView):
    """`report-queue/`: list rows, enqueue one or many."""

    scopes = {"GET": "view_reportqueue", "POST": "add_reportqueue"}
    parameters = filters.QUEUE_PARAMETERS

    def get(self, request: Request) -> Response:
        """A page of rows, and the time before it was read."""
        now = database_now()
        page = filters.queue_page(request)
        return told_time(Response(page.answer("queue", shapes.items(page.rows))), now)

    def post(self, request: Request) -> Response:
        """201; 200 if nothing was added: each key was known with the same content, or `unique` found the report."""
        many = isinstance(request.data, list)
        header = request.headers.get("Idempotency-Key")
        if many and header is not None:
            raise ValidationError({"Idempotency-Key": ["Serves one item; a list has a key in each item."]})
        bodies = request.data if many else [request.data]
        if not bodies or len(bodies) > bounds.MAX_BULK:
            raise ValidationError([f"A list has from 1 to {bounds.MAX_BULK:,} items; this one has {len(bodies):,}."])
        if many:
            form = shapes.EnqueueBody(data=bodies, many=True)
            form.is_valid(raise_exception=True)
            asked = form.validated_data
        else:
            asked = [self.body(request, shapes.EnqueueBody)]
        if header is not None and asked[0].setdefault("idempotency_key", header) != header:
            raise ValidationError({"idempotency_key": ["Differs from the Idempotency-Key header."]})
        new = [queue.NewReport(**item) for item in asked]
        done = queue.enqueue_many(new, source=Source.API, scope=f"user:{self.user(request)}")
        items = shapes.items(enqueued.row for enqueued in done)
        code = 201 if any(enqueued.created for enqueued in done) else 200
        return Response(items if many else items[0], status=code)


class ItemView(ApiView):
    """`report-queue/{id}/`: one row with its attempts."""

    scopes = {"GET": "view_reportqueue"}

    def get(self, request: Request, pk: int) -> Response:
        """The row."""
        row = get_object_or_404(ReportQueue, pk=pk)
        return Response(shapes.item(row, shapes.ItemWithAttemptsSerializer))


class ClaimView(ApiView):
    """`report-queue/claim/`: a consumer acknowledges its last claim and claims more rows."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request) -> Response:
        """The claim. With `wait_seconds`, an empty one comes only after that time, or at once if too many wait."""
        asked = {**self.body(request, shapes.ClaimBody), "user": self.user(request)}
        routes = asked.get("routes")
        twice = triggers.saw(
            Pattern.QUEUE, asked["consumer"], asked.pop("deployment"), user=asked["user"], routes=routes
        )
        until = time.monotonic() + asked.pop("wait_seconds")
        heard = claims.listener.heard()
        claim = self._claim(asked)
        if not claim.rows and claim.has_room and time.monotonic() < until:
            with claims.listener.waiting() as admitted:
                while admitted and not claim.rows and claim.has_room and claims.wait(until, heard, often=claim.limited):
                    heard = claims.listener.heard()
                    claim = self._claim(asked)
        items = shapes.items(claim.rows)
        counted = {} if claim.in_flight is None else {"in_flight": claim.in_flight, "unstarted": claim.unstarted}
        warned = {} if twice is None else {"warning": str(twice)}
        return Response({"claim_id": claim.claim_id, "queue": items, **counted, **warned})

    def _claim(self, asked: dict[str, Any]) -> queue.Claim:
        if conf().expand_on_claim:
            # One batch: more would keep the consumer waiting. Its next claim does the next batch.
            schedules.enqueue_due(batches=1)
            measures.roll_up_if_due(after=MEASURES_WAIT)
        return queue.claim(**asked)


class FailuresView(ApiView):
    """`report-queue/failures/`: failed rows, grouped by their error."""

    scopes = {"GET": "view_reportqueue"}
    parameters = ["period"]

    def get(self, request: Request) -> Response:
        """The groups of the period, those with the most rows first and the muted ones last."""
        period = request.query_params.get("period", DEFAULT_PERIOD)
        if period not in PERIODS:
            raise ValidationError({"period": [f"Must be one of {', '.join(PERIODS)}."]})
        found = queue.grouped_failures(period)
        groups = shapes.all_shown(shapes.FailureGroupSerializer, [*found.groups, *found.muted])
        return Response({"period": period, "failures": groups, "complete": found.complete, "counted_up_to": COUNTED})


class PausesView(ApiView):
    """`report-queue/pauses/`: what is paused."""

    scopes = {"GET": "view_reportqueue"}

    def get(self, request: Request) -> Response:
        """All pauses, the oldest first."""
        return Response({"pauses": shapes.all_shown(shapes.PauseSerializer, queue.paused())})


class PauseView(ApiView):
    """`report-queue/pause/`: pause the queue, a route or a report."""

    scopes = {"POST": "pause_reportqueue"}

    def post(self, request: Request) -> Response:
        """The pause, by the caller; or the one that was there already."""
        asked = self.body(request, shapes.PauseBody)
        return Response(shapes.shown(shapes.PauseSerializer, queue.pause(by=request.user.get_username(), **asked)))


class ResumeView(ApiView):
    """`report-queue/resume/`: end a pause of the queue, a route or a report."""

    scopes = {"POST": "pause_reportqueue"}

    def post(self, request: Request) -> Response:
        """Whether it was paused."""
        asked = self.body(request, shapes.ResumeBody)
        return Response({"resumed": queue.resume(by=request.user.get_username(), **asked)})


class StartView(ApiView):
    """`report-queue/{id}/start/`: a run starts its row."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row with its `lease_token`."""
        started = queue.start(pk, user=self.user(request), **self.body(request, shapes.StartBody))
        return Response(shapes.item(started, shapes.StartedSerializer))


class HeartbeatView(ApiView):
    """`report-queue/{id}/heartbeat/`: a run renews its lease, or the lease of a row that it waits to start."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The end of the lease, and whether a person asked the run to stop."""
        if "generation" in _fields(request):
            renewed = queue.renew_dispatch(pk, user=self.user(request), **self.body(request, shapes.RenewDispatchBody))
        else:
            renewed = queue.heartbeat(pk, **self.body(request, shapes.HeartbeatBody))
        return Response(shapes.shown(shapes.HeartbeatSerializer, renewed))


class CompleteView(ApiView):
    """`report-queue/{id}/complete/`: a run has made its report."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row."""
        return _item(queue.complete(pk, **self.body(request, shapes.CompleteBody)))


class FailView(ApiView):
    """`report-queue/{id}/fail/`: an attempt failed, or a run ended without ever starting its row."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row, queued again or failed."""
        if "generation" in _fields(request):
            return _item(queue.fail_launch(pk, user=self.user(request), **self.body(request, shapes.FailLaunchBody)))
        return _item(queue.fail(pk, **self.body(request, shapes.FailBody)))


class ReleaseView(ApiView):
    """`report-queue/{id}/release/`: a run or a consumer gives a row back."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row, queued again."""
        if "claim_id" in _fields(request):
            return _item(queue.release_claimed(pk, **self.body(request, shapes.ReleaseClaimedBody)))
        return _item(queue.release(pk, **self.body(request, shapes.ReleaseBody)))


class CancelView(ApiView):
    """`report-queue/{id}/cancel/`: by a person, or by the run that owns the row."""

    scopes = {"POST": "cancel_reportqueue"}

    def check_permissions(self, request: Request) -> None:
        """The owner's own cancel needs the consumer's permission, not a person's."""
        # A caller that has neither permission is refused before the body is read, as everywhere else.
        known = any(permissions.may(request, f"{verb}_reportqueue") for verb in ("cancel", "consume"))
        if known and "lease_token" in _fields(request):
            self.scopes = {"POST": "consume_reportqueue"}
        super().check_permissions(request)

    def post(self, request: Request, pk: int) -> Response:
        """The row, cancelled or asked to cancel."""
        return _item(queue.cancel(pk, **self.body(request, shapes.CancelBody)))


class RequeueView(ApiView):
    """`report-queue/{id}/requeue/`: a person wants a finished report again."""

    scopes = {"POST": "requeue_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row, queued."""
        return _item(queue.requeue(pk, **self.body(request, shapes.RequeueBody)))


def _fields(request: Request) -> Any:
    """The body's field names, if it has any."""
    return request.data if isinstance(request.data, dict) else {}


def _item(row: ReportQueue) -> Response:
    return Response(shapes.item(row))
