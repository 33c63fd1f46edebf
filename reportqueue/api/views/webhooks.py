"""The endpoint of webhooks: `webhooks/{source}/`."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import webhooks
from reportqueue.api.base import ApiView
from reportqueue.api.parsers import parsed, read_body


class WebhookView(ApiView):
    """One delivery. Its signature identifies the sender: it needs no token, session or permission."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def post(self, request: Request, source: str) -> Response:
        """201 with the row's id; 200 for a redelivery."""
        known = webhooks.sender(source, request.headers)
        # The bytes as they came: the signature is over them, and nothing is parsed before it is verified.
        body = read_body(request._request, request.META.get("CONTENT_LENGTH", ""))
        webhooks.verify(known, body, request.headers)
        done = webhooks.accept(known, request.headers["webhook-id"], parsed(body))
        return Response({"queue_id": done.row.pk, "status": done.row.status}, status=201 if done.created else 200)
