"""The front door for other systems: `webhooks/{source}/`."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import webhooks
from reportqueue.api.base import ApiView
from reportqueue.api.parsers import parsed, read_body


class WebhookView(ApiView):
    """One delivery. It is known by its signature: no token, no session, no permission."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def post(self, request: Request, source: str) -> Response:
        """201 with the row's id; 200 if the delivery was known."""
        # As it came: the signature is over the bytes, and nothing unsigned is parsed.
        body = read_body(request._request)
        known = webhooks.verified_source(source, body, request.headers)
        done = webhooks.accept(known, request.headers["webhook-id"], parsed(body))
        return Response({"queue_id": done.row.pk, "status": done.row.status}, status=201 if done.created else 200)
