"""The endpoints of sensors that evaluate the schedules themselves, or poll for due reports."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import bounds, queue, schedules, triggers
from reportqueue.api import preconditions
from reportqueue.api.base import ApiView, told_time, user_of
from reportqueue.api.serializers import queue as serializers
from reportqueue.conf import conf
from reportqueue.models import ReportQueue
from reportqueue.patterns import SENSOR_FIRED, Pattern
from reportqueue.triggers import feed


class ReportsView(ApiView):
    """`reports/`: every schedule with a cron expression; with `pattern`, the schedules that its sensor fires."""

    scopes = {"GET": "view_reportschedule"}
    parameters = ["pattern"]

    def get(self, request: Request) -> HttpResponseBase:
        """The feed, its version and the time; 304 if the caller has that version."""
        pattern = self._pattern(request)
        if pattern is not None:
            triggers.saw(pattern, user_of(request))
        if pattern is not None and conf().expand_on_claim:
            # Schedules that were written without `save()` are planned first: without a plan, no sensor fires them.
            schedules.enqueue_due(batches=1)
        if "If-None-Match" in request.headers:
            edition = feed.edition()
            if preconditions.is_known(request, _tag(edition)):
                return told_time(preconditions.not_modified(_tag(edition)), edition.read_at)
        edition, body = feed.document() if pattern is None else feed.sensors_document(pattern)
        answer = HttpResponse(body, content_type="application/json", headers={"ETag": _tag(edition)})
        return told_time(answer, edition.read_at)

    def _pattern(self, request: Request) -> Pattern | None:
        if (name := request.query_params.get("pattern")) is None:
            return None
        if name not in SENSOR_FIRED:
            raise ValidationError({"pattern": [f"Must be one of {', '.join(sorted(SENSOR_FIRED))}."]})
        return Pattern(name)


class StartFiringView(ApiView):
    """`schedules/{id}/start-firing/`: a run starts the row of the schedule's firing at `trigger_time`."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row with its `lease_token`."""
        row = triggers.start_firing(pk, user=self.user(request), **self.body(request, serializers.StartFiringBody))
        return Response(serializers.shown(serializers.StartedSerializer, row))


class QueueFiringView(ApiView):
    """`schedules/{id}/queue-firing/`: queue the firing at `trigger_time`, whose run ended before it started its row."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row; if the firing had one already, that row as it is."""
        row = triggers.queue_firing(pk, **self.body(request, serializers.QueueFiringBody))
        return Response(serializers.item(row))


class PendingView(ApiView):
    """`pending-reports/`: unclaimed rows that are due, in claim order."""

    scopes = {"GET": "view_reportqueue"}

    def get(self, request: Request) -> Response:
        """The first `MAX_PENDING` of them, each with the run key of its next generation."""
        triggers.saw(Pattern.POLLING, user_of(request))
        if conf().expand_on_claim:
            schedules.enqueue_due(batches=1)
        rows = ReportQueue.objects.pending()[: bounds.MAX_PENDING]
        return Response({"pending": serializers.all_shown(serializers.PendingSerializer, rows)})


class MarkProcessedView(ApiView):
    """`reports/{id}/mark-processed/`: the row's run is launched."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """200, also for a row that is processed already."""
        self.body(request, serializers.Body)
        row = queue.mark_processed(pk, user=self.user(request))
        return Response({"id": row.pk, "processed": row.processed})


def _tag(edition: feed.Edition) -> str:
    """A weak tag: `next_run_at` is part of the answer and changes without an edit."""
    return f'W/"{edition.version}"'
