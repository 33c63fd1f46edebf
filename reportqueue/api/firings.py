"""For runs that sensors launched by evaluating the schedules themselves: a run brings the row of its firing with it."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import schedules
from reportqueue.api import serializers as shapes
from reportqueue.api.base import ApiView


class StartFiringView(ApiView):
    """`schedules/{id}/start-firing/`: a run takes the row of the schedule's firing at `trigger_time`."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row with its `lease_token`."""
        row = schedules.start_firing(pk, **self.body(request, shapes.StartFiringBody))
        return Response(shapes.StartedSerializer(row).data)


class QueueFiringView(ApiView):
    """`schedules/{id}/queue-firing/`: the firing at `trigger_time` is queued, as its run ended before it began."""

    scopes = {"POST": "consume_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """The row; as it is, if there was one already."""
        row = schedules.queue_firing(pk, **self.body(request, shapes.QueueFiringBody))
        return Response(shapes.ItemSerializer(row).data)
