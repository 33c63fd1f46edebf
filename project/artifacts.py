"""The files of the demo's runs, in Django's default storage, shown to people who may see the queue.

Runs may be on another machine: they upload their files by HTTP, under their run id and the row's id. So no run can
overwrite the files of another run, or of another report.
"""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.http import HttpResponse
from rest_framework.exceptions import NotAuthenticated, NotFound, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue.api.base import ApiView
from reportqueue.api.problems import BodyTooLarge
from reportqueue.errors import LeaseLost
from reportqueue.models import ReportAttempt

MAX_BYTES = 5 * 1024 * 1024
KINDS = {"html": "text/html; charset=utf-8", "csv": "text/csv; charset=utf-8"}


class FileParser(BaseParser):
    """Reads the body's bytes, of bounded size."""

    media_type = "text/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Raises `BodyTooLarge`."""
        length = int(parser_context["request"].META.get("CONTENT_LENGTH") or 0)
        if length > MAX_BYTES:
            raise BodyTooLarge(f"An artifact may have at most {MAX_BYTES:,} bytes; this one has {length:,}.")
        return stream.read(length)


class ArtifactView(ApiView):
    """`artifacts/{run_id}/{queue_id}/{name}`: GET for people with `view_reportqueue`, PUT for runs with
    `consume_reportqueue`. A run that was launched by hand has no row, and no `queue_id` in the address.
    """

    scopes = {"GET": "view_reportqueue", "PUT": "consume_reportqueue"}
    parser_classes = [FileParser]

    def handle_exception(self, exc: Exception) -> Any:
        """A person without a session is sent to the login, not shown a problem document."""
        if isinstance(exc, NotAuthenticated) and "text/html" in self.request.headers.get("Accept", ""):
            return redirect_to_login(self.request.get_full_path())
        return super().handle_exception(exc)

    def get(self, request: Request, run_id: str, name: str, queue_id: int | None = None) -> HttpResponse:
        """The file. Its page may run no script and load nothing."""
        path, kind = _place(run_id, queue_id, name)
        if not default_storage.exists(path):
            raise NotFound(f"Run {run_id} has left no {name}.")
        with default_storage.open(path) as file:
            answer = HttpResponse(file.read(), content_type=kind)
        answer["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
        answer["X-Content-Type-Options"] = "nosniff"
        return answer

    def put(self, request: Request, run_id: str, name: str, queue_id: int | None = None) -> Response:
        """Store the file; returns its URL. A run that no longer owns its row is refused."""
        path, _ = _place(run_id, queue_id, name)
        ended = ReportAttempt.objects.filter(run_id=run_id).exclude(outcome="")
        if (ended if queue_id is None else ended.filter(queue=queue_id)).exists():
            raise LeaseLost(f"Run {run_id} has ended its attempt.")
        default_storage.delete(path)
        default_storage.save(path, ContentFile(request.data))
        return Response({"url": request.build_absolute_uri(request.path)})


def _place(run_id: str, queue_id: int | None, name: str) -> tuple[str, str]:
    kind = KINDS.get(name.rpartition(".")[2])
    if not re.fullmatch(r"[0-9A-Za-z-]{1,100}", run_id) or not re.fullmatch(r"[a-z0-9-]{1,50}\.[a-z]{2,5}", name):
        raise ValidationError({"name": ["A run id and a plain file name are wanted."]})
    if kind is None:
        raise ValidationError({"name": [f"Files end in {', '.join(sorted(KINDS))}."]})
    return f"{run_id}/{name}" if queue_id is None else f"{run_id}/{queue_id}/{name}", kind
