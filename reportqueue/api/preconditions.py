"""Conditional requests: compare the tags of answers with the tags in a request's headers (RFC 9110)."""

from __future__ import annotations

from django.utils.http import parse_etags
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue.api.problems import PreconditionFailed
from reportqueue.models import Report, ReportSchedule


def tag_of(subject: ReportSchedule | Report) -> str:
    """The `ETag`. It changes with every edit, but not when the scheduler plans the next firing of a schedule."""
    return f'"{subject.version}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the caller has the answer with this tag already, by its `If-None-Match`."""
    return _names(request.headers.get("If-None-Match", ""), tag)


def not_modified(tag: str) -> Response:
    """304, for a caller that has this answer already."""
    return Response(status=304, headers={"ETag": tag})


def require_match(request: Request, subject: ReportSchedule | Report) -> None:
    """Refuse the request if its `If-Match` does not name the current version; the caller holds the subject's lock.

    Raises `PreconditionFailed`, and `ValidationError` for a header that cannot be read.
    """
    header = request.headers.get("If-Match")
    if header is None or _names(header, tag_of(subject)):
        return
    if not parse_etags(header):
        raise ValidationError({"If-Match": ['Must be the ETag of an answer, for instance "3", or *.']})
    what = "Report" if isinstance(subject, Report) else "Schedule"
    raise PreconditionFailed(
        f"{what} {subject.pk} is at version {subject.version}, not at the one named in If-Match: it has been changed. "
        "Nothing was done. Read it again, and repeat the call with its new ETag if it is still right."
    )


def _names(header: str, tag: str) -> bool:
    # Weak comparison, also for If-Match: a proxy that compresses an answer weakens its tag, with the same version.
    tags = parse_etags(header)
    return tags == ["*"] or tag.removeprefix("W/") in {known.removeprefix("W/") for known in tags}
