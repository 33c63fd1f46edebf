"""The files of the demo's runs, in the storage `artifacts`, shown to people who may see the queue.

Runs may be on another machine: they upload their files by HTTP, under their run id and the row's id. So no run can
overwrite the files of another run, or of another report.
"""

from __future__ import annotations

import errno
import re
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.files.storage import storages
from django.http import HttpResponse
from rest_framework import status
from rest_framework.exceptions import APIException, NotAuthenticated, NotFound, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from project.storage import create, replace
from reportqueue import bounds
from reportqueue.api.base import ApiView
from reportqueue.api.problems import BodyTooLarge
from reportqueue.erasure import RowFiles
from reportqueue.errors import HeldByAnother, InvalidTransition, LeaseLost
from reportqueue.models import ReportAttempt

MAX_BYTES = 5 * 1024 * 1024
KINDS = {"html": "text/html; charset=utf-8", "csv": "text/csv; charset=utf-8"}
FULL = (errno.ENOSPC, errno.EDQUOT)
STORAGE = "artifacts"
RUN_ID = re.compile(r"[0-9A-Za-z-]{1,100}")


class StorageFull(APIException):
    """There is no room for the file; the file that it should replace is unchanged."""

    status_code = status.HTTP_507_INSUFFICIENT_STORAGE
    default_detail = "There is no room for the file. Nothing was changed."
    default_code = "storage-full"


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
        if not storages[STORAGE].exists(path):
            raise NotFound(f"Run {run_id} has left no {name}.")
        answer = HttpResponse(_read(path), content_type=kind)
        answer["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
        answer["X-Content-Type-Options"] = "nosniff"
        return answer

    def put(self, request: Request, run_id: str, name: str, queue_id: int | None = None) -> Response:
        """Store the file; returns its URL.

        Only the API user whose run it is may store it, while the run owns its row. The queue does not follow a run that
        has started no row, so it does not know whose run that is: nobody overwrites its files.
        """
        path, _ = _place(run_id, queue_id, name)
        content = request.data if isinstance(request.data, bytes) else b""  # an empty body is not parsed
        followed = self._owns(request, run_id, queue_id)
        try:
            if followed:
                replace(storages[STORAGE], path, content)
            elif not create(storages[STORAGE], path, content) and _read(path) != content:
                raise InvalidTransition(f"Run {run_id} has a {name} already, and the queue does not follow the run.")
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull from None
            raise
        return Response({"url": request.build_absolute_uri(request.path)})

    def _owns(self, request: Request, run_id: str, queue_id: int | None) -> bool:
        """Whether the queue follows the run. Raises `LeaseLost`, or `HeldByAnother` if it is another user's run."""
        attempts = ReportAttempt.objects.filter(run_id=run_id)
        if queue_id is not None:
            attempts = attempts.filter(queue=queue_id)
        found = list(attempts.values_list("outcome", "queue__api_user"))
        if any(outcome for outcome, _ in found):
            raise LeaseLost(f"Run {run_id} has ended its attempt.")
        if any(owner not in ("", self.user(request)) for _, owner in found):
            raise HeldByAnother
        return bool(found)


def delete_files(row: RowFiles) -> list[str]:
    """Delete all files that the row's runs have stored for it; the addresses of the artifacts that are gone."""
    gone = []
    for run_id in row.run_ids:
        if not RUN_ID.fullmatch(run_id):
            continue  # no run under this id has stored anything
        folder = f"{run_id}/{row.queue_id}"
        try:
            names = storages[STORAGE].listdir(folder)[1]
        except FileNotFoundError:
            names = []
        for name in names:
            storages[STORAGE].delete(f"{folder}/{name}")
        gone += [address for address in row.artifacts.values() if f"/artifacts/{folder}/" in address]
    return gone


def _read(path: str) -> bytes:
    with storages[STORAGE].open(path) as file:
        content: bytes = file.read()
    return content


def _place(run_id: str, queue_id: int | None, name: str) -> tuple[str, str]:
    kind = KINDS.get(name.rpartition(".")[2])
    if not RUN_ID.fullmatch(run_id) or not re.fullmatch(r"[a-z0-9-]{1,50}\.[a-z]{2,5}", name):
        raise ValidationError({"name": ["A run id and a plain file name are wanted."]})
    if kind is None:
        raise ValidationError({"name": [f"Files end in {', '.join(sorted(KINDS))}."]})
    if queue_id is not None and queue_id > bounds.MAX_ID:
        raise NotFound("There is no such report.")
    return f"{run_id}/{name}" if queue_id is None else f"{run_id}/{queue_id}/{name}", kind
