"""Lists as CSV: all rows that match a list's filters and search, streamed, in the list's order."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from typing import Any, ClassVar

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, PAGE_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.functions import Right
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_GET

from reportqueue import catalogue, keyset, modifiers
from reportqueue.admin import formats
from reportqueue.admin.changelists import ListAdmin
from reportqueue.clock import database_now

MAX_ROWS = 1_000_000
"""A longer list is cut, and its last line says so."""
BATCH = 100
"""Rows that are in memory at once: parameters and results have up to 64 KiB each."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so would be a formula in a spreadsheet."""

Columns = Mapping[str, Callable[[Any], Any]]
"""The names of the columns, each with the function that reads it from a row."""


def fields(*names: str, **others: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
    """Columns of the fields with these names, and others."""
    return {**{name: attrgetter(name) for name in names}, **others}


def _last_line(row: Any) -> str:
    return formats.last_line(row.error_end, 300)


ROWS = fields(
    "queue_id",
    "report_id",
    "report_name",
    "modifier_id",
    "modifier_name",
    "status",
    "source",
    "route",
    "priority",
    "schedule_id",
    "trigger_time",
    "created_at",
    "available_at",
    "claimed_at",
    "dispatched_at",
    "started_at",
    "finished_at",
    "expires_at",
    "deadline_at",
    "attempt",
    "max_attempts",
    "cancel_requested",
    "claimed_by",
    "run_id",
    "idempotency_key",
    error=_last_line,
    params=attrgetter("params"),
    result=attrgetter("result"),
)
SCHEDULES = {"schedule_id": attrgetter("pk")} | fields(
    "report_id",
    "report_name",
    "modifier_id",
    "modifier_name",
    "cron",
    "interval_seconds",
    "timezone",
    "start_at",
    "end_at",
    "calendar_id",
    "blackout",
    "enabled",
    "paused_at",
    "paused_by",
    "pause_note",
    "catch_up",
    "catch_up_window_seconds",
    "catch_up_limit",
    "overlap",
    "jitter_seconds",
    "unique",
    "priority",
    "max_attempts",
    "next_run_at",
    error=_last_line,
    params=attrgetter("params"),
)


class Line:
    """A file for `csv.writer` that returns what is written to it."""

    def write(self, text: str) -> str:
        """The text."""
        return text


class ExportedAdmin(ListAdmin):
    """A list with a link to export it. `exported` are the columns, by the names that the API has for them."""

    exported: ClassVar[Columns]

    def get_urls(self) -> list[Any]:
        """Django's, and the address of the export."""
        view = self.admin_site.admin_view(require_GET(self.export_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [path("export/", view, name=name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, with the link."""
        context = dict(extra_context or {})
        kept = request.GET.copy()
        for name in (PAGE_VAR, ALL_VAR, ERROR_FLAG):
            kept.pop(name, None)
        address = self.address("export") + (f"?{kept.urlencode()}" if kept else "")
        context["links"] = [*context.get("links", []), (gettext("Export as CSV"), address)]
        return super().changelist_view(request, context)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """All rows of the list with the filters, the search and the order of the address. 403 without its permission.

        The list as a page answers an address that means nothing.
        """
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        try:
            shown = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{self.address('changelist')}?{ERROR_FLAG}=1")
        name = f"{self.opts.model_name}-{database_now():%Y-%m-%d}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(self._lines(shown), content_type="text/csv; charset=utf-8", headers=headers)

    def _lines(self, shown: ChangeList) -> Iterator[str]:
        writer: Any = csv.writer(Line())
        yield writer.writerow(self.exported)
        order = self._order(shown)
        found = (place[-1] for place in keyset.places(_parts(shown), order))
        left = MAX_ROWS
        while pks := list(islice(found, BATCH)):
            rows = self._read(pks[:left])
            yield "".join(writer.writerow([cell(read(row)) for read in self.exported.values()]) for row in rows)
            if len(pks) > left:
                yield writer.writerow([f"The list is longer: this file has its first {MAX_ROWS} rows."])
                return
            left -= len(pks)

    def _read(self, pks: list[int]) -> list[Any]:
        """The rows with these ids in their order, with the names of their reports and modifiers."""
        query: Any = self.model._default_manager.filter(pk__in=pks)
        found = query.annotate(error_end=Right("error", 300)).defer("error").in_bulk()
        rows = [found[pk] for pk in pks if pk in found]  # a row may have been pruned since
        catalogue.name_rows(rows)
        modifiers.name_rows(rows)
        return rows

    def _order(self, shown: ChangeList) -> list[str]:
        """The list's order up to its key, without fields that may be empty: a place in a list has no empty value."""
        key = self.opts.pk.name
        known = {field.name: field for field in self.opts.concrete_fields} | {"pk": self.opts.pk}
        order: dict[str, str] = {}
        for given in map(str, shown.queryset.query.order_by):
            name = given.removeprefix("-")
            if name in known and not known[name].null and key not in order:
                order.setdefault(known[name].name, ("-" if given != name else "") + known[name].name)
        return list({**order, key: order.get(key, key)}.values())


def _parts(shown: ChangeList) -> list[QuerySet[Any]]:
    """The parts of the list of which each has an index in its order; see `PartsPaginator`."""
    parts: list[QuerySet[Any]] = getattr(shown.paginator, "parts", None) or [shown.queryset]
    return parts


def cell(value: Any) -> str | int | float:
    """A value as a cell: instants in UTC, JSON as text, and no text that a spreadsheet would take for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(FORMULA) else text
