"""The endpoints of the API: each parses, calls one function of the queue, and answers."""

from __future__ import annotations

import time
from typing import Any, NoReturn

from django.db import transaction
from django.utils.decorators import method_decorator
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from reportqueue import bounds, queue, schedules, wakeup
from reportqueue.api import listing, problems
from reportqueue.api import serializers as shapes
from reportqueue.api.parsers import BoundedJSONParser
from reportqueue.api.permissions import Scopes
from reportqueue.conf import conf
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Source


class OneFormat(DefaultContentNegotiation):
    """JSON or 406; `?format=` is a parameter like any other."""

    def filter_renderers(self, renderers: Any, format: Any) -> Any:
        """All of them."""
        return renderers


# A claim that waits must not do so inside a request's transaction, whatever the project's ATOMIC_REQUESTS says.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ApiView(APIView):
    """What all endpoints share. It brings its own error format and leaves the project's DRF settings alone."""

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [Scopes]
    parser_classes = [BoundedJSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = OneFormat
    versioning_class = None
    scopes: dict[str, str] = {}
    parameters: list[str] = []
    """Of a GET's query; no other method has any."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """As DRF's, and unknown parameters are refused; so is a chunked body, since DRF would take it for none."""
        super().initial(request, *args, **kwargs)
        known = self.parameters if request.method in ("GET", "HEAD") else []
        if unknown := sorted(set(request.query_params) - set(known)):
            text = (
                f"Unknown parameter; the parameters here are {', '.join(known)}."
                if known
                else "There are no parameters here."
            )
            raise ValidationError({name: [text] for name in unknown})
        if "Transfer-Encoding" in request.headers and not request.META.get("CONTENT_LENGTH"):
            raise problems.LengthRequired("Send the body with a Content-Length, not in chunks.")

    def get_exception_handler(self) -> Any:
        """Problem documents."""
        return problems.handle

    def body(self, request: Request, shape: type[shapes.Body]) -> dict[str, Any]:
        """The body's validated fields. Raises `ValidationError` naming the field."""
        form = shape(data=request.data)
        form.is_valid(raise_exception=True)
        return dict(form.validated_data)


class UnknownEndpoint(ApiView):
    """Any other path below the API: a problem document rather than a web page."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        """404, whatever the method and whoever asks."""
        raise NotFound(f"There is no {request.path} here.")


class QueueView(ApiView):
    """`report-queue/`: list rows, enqueue one or many."""

    scopes = {"GET": "view_reportqueue", "POST": "add_reportqueue"}
    parameters = listing.PARAMETERS

    def get(self, request: Request) -> Response:
        """A page in claim order."""
        page = listing.page(ReportQueue.objects.all(), request)
        page["queue"] = shapes.ItemSerializer(page["queue"], many=True).data
        return Response(page)

    def post(self, request: Request) -> Response:
        """201; 200 if every key was known with the same content."""
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
        done = queue.enqueue_many([queue.NewReport(**item) for item in asked], source=Source.API)
        items = shapes.ItemSerializer([enqueued.row for enqueued in done], many=True).data
        code = 201 if any(enqueued.created for enqueued in done) else 200
        return Response(items if many else items[0], status=code)


class ItemView(ApiView):
    """`report-queue/{id}/`: one row with its attempts."""

    scopes = {"GET": "view_reportqueue"}

    def get(self, request: Request, pk: int) -> Response:
        """The row."""
        row = get_object_or_404(ReportQueue.objects.prefetch_related("attempts"), pk=pk)
        return Response(shapes.ItemWithAttemptsSerializer(row).data)


class ClaimView(ApiView):
    """`report-queue/claim/`: a consumer acknowledges its last claim and asks for more."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request) -> Response:
        """The claim; with `wait_seconds`, an empty one only after that time."""
        asked = self.body(request, shapes.ClaimBody)
        until = time.monotonic() + asked.pop("wait_seconds")
        claim = self._claim(asked)
        while not claim.rows and wakeup.wait(until):
            claim = self._claim(asked)
        items = shapes.ItemSerializer(claim.rows, many=True).data
        return Response({"claim_id": claim.claim_id, "queue": items})

    def _claim(self, asked: dict[str, Any]) -> queue.Claim:
        if conf().expand_on_claim:
            # One batch: more of them would keep the consumer waiting, and its next claim is the next one.
            schedules.enqueue_due(batches=1)
        return queue.claim(**asked)


class StartView(ApiView):
    """`report-queue/{id}/start/`: a run takes its row."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row with its `lease_token`."""
        return Response(shapes.StartedSerializer(queue.start(pk, **self.body(request, shapes.StartBody))).data)


class HeartbeatView(ApiView):
    """`report-queue/{id}/heartbeat/`: a run renews its lease."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """Until when the lease holds, and whether somebody wants the run to stop; also for a run that waits."""
        if "generation" in _fields(request):
            beat = queue.keep_waiting(pk, **self.body(request, shapes.KeepWaitingBody))
        else:
            beat = queue.heartbeat(pk, **self.body(request, shapes.HeartbeatBody))
        return Response(shapes.BeatSerializer(beat).data)


class CompleteView(ApiView):
    """`report-queue/{id}/complete/`: the report is made."""

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
            return _item(queue.fail_launch(pk, **self.body(request, shapes.FailLaunchBody)))
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
        # Whoever has neither is refused before the body is read, as everywhere else.
        user = request.user
        known = user and any(user.has_perm(f"reportqueue.{verb}_reportqueue") for verb in ("cancel", "consume"))
        if known and "lease_token" in _fields(request):
            self.scopes = {"POST": "consume_reportqueue"}
        super().check_permissions(request)

    def post(self, request: Request, pk: int) -> Response:
        """The row, cancelled or asked to cancel."""
        return _item(queue.cancel(pk, **self.body(request, shapes.CancelBody)))


class RequeueView(ApiView):
    """`report-queue/{id}/requeue/`: a finished report is wanted again."""

    scopes = {"POST": "requeue_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row, queued."""
        return _item(queue.requeue(pk, **self.body(request, shapes.RequeueBody)))


class SchedulesView(ApiView):
    """`schedules/`: list and add schedules."""

    scopes = {"GET": "view_reportschedule", "POST": "add_reportschedule"}

    def get(self, request: Request) -> Response:
        """All schedules."""
        return Response({"schedules": shapes.ScheduleSerializer(ReportSchedule.objects.all(), many=True).data})

    def post(self, request: Request) -> Response:
        """201 with the schedule and its first firing."""
        form = shapes.ScheduleSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        form.save()
        return Response(form.data, status=201)


class ScheduleView(ApiView):
    """`schedules/{id}/`: one schedule."""

    scopes = {
        "GET": "view_reportschedule",
        "PATCH": "change_reportschedule",
        "DELETE": "delete_reportschedule",
    }

    def get(self, request: Request, pk: int) -> Response:
        """The schedule."""
        return Response(shapes.ScheduleSerializer(get_object_or_404(ReportSchedule, pk=pk)).data)

    def patch(self, request: Request, pk: int) -> Response:
        """The schedule as changed; a change of its timing counts from now."""
        with transaction.atomic():
            schedule = get_object_or_404(ReportSchedule.objects.select_for_update(), pk=pk)
            form = shapes.ScheduleSerializer(schedule, data=request.data, partial=True)
            form.is_valid(raise_exception=True)
            form.save()
        return Response(form.data)

    def delete(self, request: Request, pk: int) -> Response:
        """204; the rows it has enqueued stay."""
        get_object_or_404(ReportSchedule, pk=pk).delete()
        return Response(status=204)


def _fields(request: Request) -> Any:
    """The body's field names, if it has any."""
    return request.data if isinstance(request.data, dict) else {}


def _item(row: ReportQueue) -> Response:
    return Response(shapes.ItemSerializer(row).data)
