"""For consumers that poll rather than claim: what is due and nobody's, and the note that it was launched."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import bounds, queue, schedules
from reportqueue.api.base import ApiView
from reportqueue.api.serializers import Body, PendingSerializer
from reportqueue.conf import conf
from reportqueue.models import ReportQueue


class PendingView(ApiView):
    """`pending-reports/`: due rows that nobody holds, in claim order."""

    scopes = {"GET": "view_reportqueue"}

    def get(self, request: Request) -> Response:
        """The first `MAX_PENDING` of them; each with the run key of its next hand-over."""
        if conf().expand_on_claim:
            schedules.enqueue_due(batches=1)
        rows = ReportQueue.objects.pending()[: bounds.MAX_PENDING]
        return Response({"pending": PendingSerializer(rows, many=True).data})


class MarkProcessedView(ApiView):
    """`reports/{id}/mark-processed/`: the row's run is launched, and Dagster holds it."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """200, also for a row that is processed already."""
        self.body(request, Body)
        row = queue.mark_processed(pk)
        return Response({"id": row.pk, "processed": row.processed})
