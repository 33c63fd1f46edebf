"""Every refusal as RFC 9457 `application/problem+json`: the one place that maps errors to answers."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DatabaseError, InterfaceError
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.settings import api_settings
from rest_framework.views import set_rollback

from reportqueue import database, errors, locks

logger = logging.getLogger("reportqueue")
CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
"""How long a caller is told to wait before it repeats the call."""


class BodyTooLarge(exceptions.APIException):
    """The request's body is over the limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body-too-large"


class LengthRequired(exceptions.APIException):
    """The request does not say how long its body is."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_code = "length-required"


class PreconditionFailed(exceptions.APIException):
    """The schedule or the report has changed since the version in `If-Match`."""

    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_code = "precondition-failed"


class UnknownPath(exceptions.NotFound):
    """The API has no such address: a client that gets this has another address than the API's."""

    default_code = "not-found"

    def __init__(self, path: str) -> None:
        super().__init__(f"There is no {path} here.")
        self.path = path


QUEUE_ERRORS: list[tuple[type[errors.ReportQueueError], str, int]] = [
    (errors.RowNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.ScheduleNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.ReportNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.SourceNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.BulkActionNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.BulkActionRefused, "bulk-action-refused", status.HTTP_409_CONFLICT),
    (errors.SubscriptionNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.AlertRuleNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.DeliveryNotFound, "not-found", status.HTTP_404_NOT_FOUND),
    (errors.DeliveryRefused, "delivery-refused", status.HTTP_409_CONFLICT),
    (errors.BadSignature, "bad-signature", status.HTTP_401_UNAUTHORIZED),
    (errors.LeaseLost, "stale-lease", status.HTTP_409_CONFLICT),
    (errors.HeldByAnother, "held-by-another", status.HTTP_403_FORBIDDEN),
    (errors.InvalidTransition, "invalid-state", status.HTTP_409_CONFLICT),
    (errors.RowErased, "erased", status.HTTP_409_CONFLICT),
    (errors.FeedTooLarge, "feed-too-large", status.HTTP_409_CONFLICT),
    (errors.FiringRefused, "firing-refused", status.HTTP_409_CONFLICT),
    (errors.FiringTooEarly, "too-early", status.HTTP_409_CONFLICT),
    (errors.IdempotencyKeyReused, "idempotency-key-reused", status.HTTP_409_CONFLICT),
    (errors.HistoryLeft, "history-left", status.HTTP_503_SERVICE_UNAVAILABLE),
    (errors.RowBusy, "busy", status.HTTP_503_SERVICE_UNAVAILABLE),
]
TITLES = {
    "not-found": "Not found",
    "bad-signature": "Not signed by its source",
    "stale-lease": "The lease is not yours",
    "held-by-another": "Handed out to another API user",
    "invalid-state": "The report's status does not allow this",
    "erased": "The report's data were erased",
    "bulk-action-refused": "The bulk action's status does not allow this",
    "delivery-refused": "Nothing can be sent now",
    "feed-too-large": "The list would be too large",
    "firing-refused": "The schedule has no such firing to run",
    "too-early": "The firing is still to come",
    "idempotency-key-reused": "Idempotency key reused",
    "history-left": "Finished reports are left",
    "busy": "Held by another transaction",
    "unavailable": "The database is not available",
    "not-migrated": "The database lacks tables",
    "validation": "Invalid request",
    "malformed": "Malformed request",
    "not-authenticated": "Authentication required",
    "permission-denied": "Permission denied",
    "method-not-allowed": "Method not allowed",
    "unsupported-media-type": "Unsupported media type",
    "not-acceptable": "Not acceptable",
    "precondition-failed": "Changed meanwhile",
    "body-too-large": "Request body too large",
    "length-required": "Length required",
}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """A DRF exception handler; None leaves an unexpected error to Django, its logging and its 500."""
    response = answer(error)
    if response is not None:
        set_rollback()
    return response


def answer(error: Exception) -> Response | None:
    """The answer for an expected error; None for any other."""
    if isinstance(error, DatabaseError | InterfaceError):
        if locks.is_busy(error):
            error = errors.RowBusy()
        elif locks.is_away(error):
            # It is restarting, out of reach, or out of connections. Its message may name hosts and users: only log it.
            logger.warning("The database does not do what was asked: %s", " ".join(str(error).split())[:300])
            text = "The database does not answer, or takes no more connections: try again soon."
            if locks.is_read_only(error):
                text = f"{locks.READ_ONLY} Try again once DATABASES names a server that takes writes."
            return problem("unavailable", status.HTTP_503_SERVICE_UNAVAILABLE, text)
        elif database.lacks_table(error):
            logger.error("The database lacks a table or a column: %s", str(error).strip().splitlines()[0])
            return problem("not-migrated", status.HTTP_503_SERVICE_UNAVAILABLE, database.NOT_MIGRATED)
    if isinstance(error, errors.ReportQueueError):
        for family, kind, code in QUEUE_ERRORS:
            if isinstance(error, family):
                more = {"current_status": error.current_status} if error.current_status else {}
                return problem(kind, code, str(error), **more)
    if isinstance(error, ValidationError):
        error = exceptions.ValidationError(as_serializer_error(error))
    if isinstance(error, exceptions.ValidationError):
        found = error.detail if isinstance(error.detail, dict | list) else [error.detail]
        fields = _flatten(found)
        detail = " ".join(f"{name}: {' '.join(texts)}" if name else " ".join(texts) for name, texts in fields.items())
        return problem("validation", status.HTTP_400_BAD_REQUEST, detail, errors=fields)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    if isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    kind = {
        exceptions.ParseError: "malformed",
        exceptions.AuthenticationFailed: "not-authenticated",
        exceptions.NotAuthenticated: "not-authenticated",
        exceptions.PermissionDenied: "permission-denied",
        exceptions.NotFound: "not-found",
        exceptions.MethodNotAllowed: "method-not-allowed",
        exceptions.UnsupportedMediaType: "unsupported-media-type",
        exceptions.NotAcceptable: "not-acceptable",
    }.get(type(error), error.default_code)
    named = {"path": _whole(error.path)} if isinstance(error, UnknownPath) else {}
    response = problem(kind, error.status_code, str(error.detail), **named)
    if (scheme := getattr(error, "auth_header", None)) is not None:
        response["WWW-Authenticate"] = str(scheme)
    return response


def problem(kind: str, code: int, detail: str, **more: Any) -> Response:
    """A problem document; `kind` is its stable `type`, what a client may branch on."""
    document = {"type": kind, "title": TITLES.get(kind, kind), "status": code, "detail": _whole(detail), **more}
    response = Response(document, status=code, content_type=CONTENT_TYPE)
    if code == status.HTTP_503_SERVICE_UNAVAILABLE:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _flatten(found: Any, name: str = "") -> dict[str, list[str]]:
    """Nested messages as `{"[3].priority": ["..."]}`; messages that belong to no field are under ''."""
    flat: dict[str, list[str]] = {}
    if isinstance(found, dict):
        for key, value in found.items():
            if isinstance(key, int):  # a place in a list; names of fields are texts
                inner = f"{name}[{key}]"
            elif key == api_settings.NON_FIELD_ERRORS_KEY:
                inner = name
            else:
                inner = f"{name}.{key}" if name else str(key)
            flat.update(_flatten(value, inner))
    elif any(isinstance(value, dict | list) for value in found):
        for place, value in enumerate(found):
            flat.update(_flatten(value, f"{name}[{place}]"))
    elif found:
        flat[_whole(name)] = [_whole(str(value)) for value in found]
    return flat


def _whole(text: str) -> str:
    """The text, its lone surrogates replaced: it may quote what was sent, and must be UTF-8."""
    return text.encode(errors="replace").decode()
