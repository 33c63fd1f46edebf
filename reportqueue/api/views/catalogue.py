"""The endpoints of the catalogue: what reports are called, asked, and how much of them is made at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue import locks
from reportqueue.api import filters, preconditions
from reportqueue.api.base import ApiView
from reportqueue.api.serializers.catalogue import ChangedReportSerializer, ReportSerializer
from reportqueue.api.serializers.queue import all_shown, shown
from reportqueue.models import Report


class CatalogueView(ApiView):
    """`catalogue/`: list and add reports."""

    scopes = {"GET": "view_report", "POST": "add_report"}
    parameters = filters.REPORT_PARAMETERS

    def get(self, request: Request) -> Response:
        """A page, by number."""
        page = filters.report_page(request)
        return Response(page.answer("reports", all_shown(ReportSerializer, page.rows)))

    def post(self, request: Request) -> Response:
        """201 with the entry."""
        form = ReportSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return _answer(form.save(), status=201)


class ReportView(ApiView):
    """`catalogue/{report_id}/`: one report."""

    scopes = {"GET": "view_report", "PATCH": "change_report", "DELETE": "delete_report"}

    def get(self, request: Request, pk: int) -> Response:
        """The entry; 304 if the caller has this version already."""
        report = get_object_or_404(Report, pk=pk)
        tag = preconditions.tag_of(report)
        return preconditions.not_modified(tag) if preconditions.is_known(request, tag) else _answer(report)

    def patch(self, request: Request, pk: int) -> Response:
        """The entry as changed. A new limit holds for what is claimed from now on."""
        with _matching(request, pk) as report:
            form = ChangedReportSerializer(report, data=request.data, partial=True)
            form.is_valid(raise_exception=True)
            return _answer(form.save())

    def delete(self, request: Request, pk: int) -> Response:
        """204; rows, schedules and webhook sources of the report stay."""
        with _matching(request, pk) as report:
            report.delete()
        return Response(status=204)


@contextmanager
def _matching(request: Request, pk: int) -> Iterator[Report]:
    """The entry, locked, at the version of the request's `If-Match`. Raises `Http404`, `PreconditionFailed`."""
    with locks.bounded():
        report = get_object_or_404(Report.objects.select_for_update(), pk=pk)
        preconditions.require_match(request, report)
        yield report


def _answer(report: Report, status: int = 200) -> Response:
    headers = {"ETag": preconditions.tag_of(report)}
    return Response(shown(ReportSerializer, report), status=status, headers=headers)
