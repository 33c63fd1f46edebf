"""`reports/`: the whole plan, for clients that evaluate the expressions themselves and ask often whether it changed."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from reportqueue import plan, schedules
from reportqueue.api import preconditions
from reportqueue.api.base import ApiView
from reportqueue.conf import conf
from reportqueue.patterns import SENSOR_FIRED, Pattern


class ReportsView(ApiView):
    """`reports/`: every schedule with a cron expression; with `pattern`, what its sensor is to fire."""

    scopes = {"GET": "view_reportschedule"}
    parameters = ["pattern"]

    def get(self, request: Request) -> HttpResponseBase:
        """The plan and its version; 304 if the caller has that version."""
        pattern = self._pattern(request)
        if pattern is not None and conf().expand_on_claim:
            # What was written around `save()` is planned first: nobody fires what has no next firing.
            schedules.enqueue_due(batches=1)
        if "If-None-Match" in request.headers:
            tag = _tag(plan.edition())
            if preconditions.is_known(request, tag):
                return preconditions.not_modified(tag)
        edition, body = plan.document() if pattern is None else plan.sensors_document(pattern)
        return HttpResponse(body, content_type="application/json", headers={"ETag": _tag(edition)})

    def _pattern(self, request: Request) -> Pattern | None:
        if (name := request.query_params.get("pattern")) is None:
            return None
        if name not in SENSOR_FIRED:
            raise ValidationError({"pattern": [f"Must be one of {', '.join(sorted(SENSOR_FIRED))}."]})
        return Pattern(name)


def _tag(edition: plan.Edition) -> str:
    """Weak: `next_run_at` is part of the answer and moves without an edit."""
    return f'W/"{edition.version}"'
