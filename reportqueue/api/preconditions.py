"""Conditional requests: the tags of answers, compared with those that a request names (RFC 9110)."""

from __future__ import annotations

from django.utils.http import parse_etags
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue.api.problems import PreconditionFailed
from reportqueue.models import ReportSchedule


def tag_of(schedule: ReportSchedule) -> str:
    """The schedule's `ETag`: what people have made of it; where the scheduler stands is not part of it."""
    return f'"{schedule.version}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the caller has the answer with this tag already, by its `If-None-Match`."""
    return _names(request.headers.get("If-None-Match", ""), tag)


def not_modified(tag: str) -> Response:
    """The answer to who has it already."""
    return Response(status=304, headers={"ETag": tag})


def require_match(request: Request, schedule: ReportSchedule) -> None:
    """Let nobody overwrite what he has not seen, if he sends `If-Match`; the caller holds the schedule's lock.

    Raises `PreconditionFailed`, and `ValidationError` for a header that cannot be read.
    """
    header = request.headers.get("If-Match")
    if header is None or _names(header, tag_of(schedule)):
        return
    if not parse_etags(header):
        raise ValidationError({"If-Match": ['Must be the ETag of an answer, for instance "3", or *.']})
    raise PreconditionFailed(
        f"Schedule {schedule.pk} is at version {schedule.version}, not at the one named in If-Match: somebody has "
        "changed it. Nothing was done. Read it again, and repeat the call with its new ETag if it is still right."
    )


def _names(header: str, tag: str) -> bool:
    # Weakly, for If-Match too: a proxy that compresses an answer weakens its tag, and the version in it is the same.
    tags = parse_etags(header)
    return tags == ["*"] or tag.removeprefix("W/") in {known.removeprefix("W/") for known in tags}
