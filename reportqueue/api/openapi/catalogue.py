"""The calls of the catalogue."""

from __future__ import annotations

from reportqueue.api.filters import ReportFilter
from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.operations import (
    CONDITIONAL,
    DELETED,
    ETAG,
    IF_MATCH,
    IF_NONE_MATCH,
    NOT_MODIFIED,
    PAGES,
    Answer,
    Operation,
    Operations,
    page_of,
)
from reportqueue.api.openapi.parameters import of_filters
from reportqueue.api.serializers.catalogue import ChangedReportSerializer, ReportSerializer
from reportqueue.api.views import catalogue

FILTERS = {"route": "May be repeated.", "name": "Its begin, in whatever letters."}
ENTRY = Answer("The entry.", (ReportSerializer,), examples.REPORT, (ETAG,))
OPERATIONS: Operations = {
    catalogue.CatalogueView: {
        "GET": Operation(
            name="list_reports",
            tag="Catalogue",
            summary="List reports",
            parameters=(*of_filters(ReportFilter, FILTERS), *PAGES),
            answers={200: page_of("reports", examples.REPORT, "A page, by number.", forms.CataloguePage)},
        ),
        "POST": Operation(
            name="add_report",
            tag="Catalogue",
            summary="Add a report",
            text="No two reports have the same name. `rate_limit` and `rate_period_seconds` go together.",
            bodies=(ReportSerializer,),
            examples={"a report": {"report_id": 3, "name": "Sales by region", "max_running": 4}},
            answers={201: ENTRY},
        ),
    },
    catalogue.ReportView: {
        "GET": Operation(
            name="get_report",
            tag="Catalogue",
            summary="Read a report's entry",
            parameters=(IF_NONE_MATCH,),
            answers={200: ENTRY, 304: NOT_MODIFIED},
        ),
        "PATCH": Operation(
            name="change_report",
            tag="Catalogue",
            summary="Change a report's entry",
            text="Only the fields that the body names are written. Limits hold for what is claimed from now on.",
            bodies=(ChangedReportSerializer,),
            examples={"a limit": {"max_running": 8}},
            parameters=(IF_MATCH,),
            answers={200: ENTRY},
            refusals=(CONDITIONAL,),
        ),
        "DELETE": Operation(
            name="delete_report",
            tag="Catalogue",
            summary="Delete a report's entry",
            text="Rows, schedules and webhook sources of the report stay.",
            parameters=(IF_MATCH,),
            answers={204: DELETED},
            refusals=(CONDITIONAL,),
        ),
    },
}
