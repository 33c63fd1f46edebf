"""The endpoints of bulk actions: all rows that match a filter are requeued or cancelled in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ValidationError as Refused

from reportqueue import bulk
from reportqueue.api import filters, pagination, permissions
from reportqueue.api.base import ApiView
from reportqueue.api.serializers import bulk as shapes
from reportqueue.api.serializers.queue import Body, all_shown, shown
from reportqueue.models import BulkAction
from reportqueue.models.bulk import BulkVerb
from reportqueue.states import Verb


class _ActingView(ApiView):
    """The base of the endpoints that change rows: they need the permission of the verb that the rows meet."""

    def needed(self, request: Request) -> str:
        """The permission, once it is known that the caller has one of those of the verbs."""
        raise NotImplementedError

    def check_permissions(self, request: Request) -> None:
        """A caller without any is refused before the body is read and the action looked for, as everywhere else."""
        if request.method == "POST":
            known = any(permissions.may(request, f"{verb}_reportqueue") for verb in BulkVerb.values)
            self.scopes = {**self.scopes, "POST": self.needed(request) if known else "requeue_reportqueue"}
        super().check_permissions(request)


class BulkView(_ActingView):
    """`report-queue/bulk/`: list bulk actions, start one."""

    scopes = {"GET": "view_reportqueue", "POST": "requeue_reportqueue"}
    parameters = pagination.PARAMETERS

    def needed(self, request: Request) -> str:
        """By the body's verb. Without a valid one, either permission is enough to be told so."""
        verb = request.data.get("verb") if isinstance(request.data, dict) else None
        if isinstance(verb, str) and verb in BulkVerb.values:
            return f"{verb}_reportqueue"
        return next(name for verb in BulkVerb.values if permissions.may(request, name := f"{verb}_reportqueue"))

    def get(self, request: Request) -> Response:
        """A page of actions, the newest first."""
        page = filters.bulk_page(request)
        return Response(page.answer("bulk_actions", all_shown(shapes.BulkSerializer, page.rows)))

    def post(self, request: Request) -> Response:
        """202 with the action; with `dry_run` 200 and what it would be done to, and nothing is done."""
        asked = self.body(request, shapes.BulkBody)
        verb, given, dry_run = Verb(asked.pop("verb")), asked.pop("filters"), asked.pop("dry_run")
        try:
            wanted = bulk.checked(verb, given)
        except ValidationError as error:
            raise Refused({"filters": error.message_dict}) from None
        if dry_run:
            found = bulk.preview(verb, wanted, sample=0)
            return Response(
                {"verb": verb, "filters": wanted, "total": found.total, "more": found.more, "counts": found.counts}
            )
        action = bulk.start(
            verb,
            wanted,
            all_rows=asked.pop("all"),
            by=request.user.get_username(),
            scope=f"user:{self.user(request)}",
            **asked,
        )
        return Response(shown(shapes.BulkSerializer, action), status=202)


class BulkActionView(ApiView):
    """`report-queue/bulk/{id}/`: one bulk action."""

    scopes = {"GET": "view_reportqueue"}

    def get(self, request: Request, pk: int) -> Response:
        """The action."""
        return Response(shown(shapes.BulkSerializer, bulk.get(pk)))


class _OrderView(_ActingView):
    """The base of the orders on a bulk action."""

    scopes = {"POST": "requeue_reportqueue"}
    order: ClassVar[str]
    shape: ClassVar[type[Body]] = shapes.OrderBody
    call: ClassVar[Callable[..., BulkAction]]
    code = 200

    def needed(self, request: Request) -> str:
        """By the action's verb."""
        return bulk.permission(bulk.get(self.kwargs["pk"]), self.order)

    def post(self, request: Request, pk: int) -> Response:
        """The action."""
        asked: dict[str, Any] = self.body(request, self.shape)
        action = type(self).call(pk, by=request.user.get_username(), **asked)
        return Response(shown(shapes.BulkSerializer, action), status=self.code)


class PauseView(_OrderView):
    """`report-queue/bulk/{id}/pause/`: let it rest."""

    order, call = "pause", bulk.pause


class ResumeView(_OrderView):
    """`report-queue/bulk/{id}/resume/`: let it go on."""

    order, call = "resume", bulk.resume


class StopView(_OrderView):
    """`report-queue/bulk/{id}/stop/`: end it where it is."""

    order, call = "stop", bulk.stop


class UndoView(_OrderView):
    """`report-queue/bulk/{id}/undo/`: another action takes back what it has done."""

    order, call, shape, code = "undo", bulk.undo, shapes.UndoBody, 202
