"""Lists whose cost does not grow with the history: counts are bounded, and every look-up uses an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, SEARCH_VAR, ChangeList
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.db.models import F, Func, QuerySet, Value
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Left, Now, Reverse
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, catalogue, keyset, modifiers
from reportqueue.admin import audit_table, formats, search
from reportqueue.admin.modifiers import modifiers_named
from reportqueue.admin.search import NotUnderstood
from reportqueue.admin.waiting import PatientAdmin
from reportqueue.models import Report
from reportqueue.models.audit import Kind

if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
else:
    AnyPaginator = Paginator


def name_all(objects: Sequence[Any]) -> None:
    """Look up the names of the reports and modifiers that these objects have: one query for each kind.

    Their `str()` then has the names.
    """
    of_reports = [one for one in objects if hasattr(one, "report_id") and not isinstance(one, Report)]
    if of_reports:
        catalogue.name_rows(of_reports)
        if hasattr(of_reports[0], "modifier_id"):
            modifiers.name_rows(of_reports)


class BoundedPaginator(AnyPaginator):
    """Counts and shows up to `LIMIT` rows: a COUNT of all rows makes large admin lists slow."""

    LIMIT = 10_000
    more = False
    """Whether there are rows beyond the limit."""

    @cached_property
    def count(self) -> int:
        """At most `LIMIT`."""
        rows: Any = self.object_list
        # Keys alone: a limited count would compute every annotation of every row.
        counted: int = rows.order_by().values("pk")[: self.LIMIT + 1].count()
        self.more = counted > self.LIMIT
        return min(counted, self.LIMIT)

    def validate_number(self, number: Any) -> int:
        """The last page instead of one that is gone: after an action, a list is often shorter."""
        last: int = self.num_pages
        return max(1, min(int(number), last))


class PartsPaginator(BoundedPaginator):
    """Counts and reads a list part by part: no row is in two parts, and each part has an index in the list's order."""

    def __init__(self, rows: QuerySet[Any], per_page: int, parts: Sequence[QuerySet[Any]]) -> None:
        super().__init__(rows, per_page)
        self.parts = parts

    @cached_property
    def count(self) -> int:
        """At most `LIMIT`."""
        # In the order of the indexes: without an order, PostgreSQL may read the table to its end for a few rows.
        parts = [part.values("trigger_time") for part in self.parts]
        counted = keyset.merged(parts, ["trigger_time"], self.LIMIT + 1).count()
        self.more = counted > self.LIMIT
        return min(counted, self.LIMIT)

    def between(self, first: int, last: int) -> QuerySet[Any]:
        """The rows from the place `first` of the list up to the place `last`, which is not included."""
        rows: Any = self.object_list
        if first < last and len(self.parts) > 1:
            order = rows.query.order_by
            columns = dict.fromkeys([name.removeprefix("-") for name in order] + ["id"])
            found = keyset.merged([part.values(*columns) for part in self.parts], order, last)[first:]
            rows, first, last = rows.filter(pk__in=[row["id"] for row in found]), 0, last - first
        between: QuerySet[Any] = rows[first:last]
        return between


LAST_LINE = 300
"""Characters of the last line of an error that the list reads."""


class StrictChangeList(ChangeList):
    """A list that accepts only its own parameters: no look-up by other fields in the URL."""

    def get_filters(self, request: HttpRequest) -> Any:
        """As Django's, but a parameter that no filter uses is an error, not a condition."""
        found = super().get_filters(request)
        if found[2]:
            raise IncorrectLookupParameters(f"Unknown: {', '.join(sorted(found[2]))}")
        return found

    def get_ordering_field(self, field_name: Any) -> Any:
        """As Django's, but only columns of `sortable_by` are accepted from the URL."""
        return super().get_ordering_field(field_name) if field_name in (self.sortable_by or [field_name]) else None

    def get_results(self, request: HttpRequest) -> None:
        """As Django's, with the page number moved to a page that exists."""
        super().get_results(request)
        self.page_num = min(max(self.page_num, 1), self.paginator.num_pages)
        self.result_list = self.page_rows()
        if hasattr(self.model, "report_id") and self.model is not Report:
            self.result_list = list(self.result_list)
            name_all(self.result_list)

    def page_rows(self) -> Any:
        """The rows of the page."""
        return self.result_list

    def counted(self) -> Self:
        """The list as the text below it counts its objects."""
        return self


def _last_line(field: str) -> Func:
    """The begin of the last line of a text, in the database: whole texts may have 16 KiB."""
    text = Func(F(field), Value(" \t\r\n"), function="rtrim")
    end = Func(Reverse(text), Value("\n"), Value(1), function="split_part")
    return Left(Reverse(end), LAST_LINE)


class QueueChangeList(StrictChangeList):
    """The queue's list. It does not load the texts of up to 64 KiB that only a row's own page shows."""

    def counted(self) -> Self:
        """For the text below the list, "11 queued reports": the page itself is the report queue."""
        shown = copy(self)
        shown.opts = copy(self.opts)
        shown.opts.verbose_name_plural = _("queued reports")
        return shown

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """The rows, with the end of their error and the parts of their result that the list shows."""
        result = F("result")
        rows: Any = super().get_queryset(request, exclude_parameters)
        rows = rows.with_turn().annotate(
            error_end=_last_line("error"),
            artifacts_made=KeyTransform("artifacts", result),
            skipped_count=KeyTransform("count", result),
            skipped_complete=KeyTransform("complete", result),
        )
        shown: QuerySet[Any] = rows.defer("params", "error", "result", "schedule__params", "schedule__error")
        return shown

    def page_rows(self) -> Any:
        """The rows of the page, read by the paginator in its parts."""
        if self.show_all and self.can_show_all:
            first, last = 0, self.result_count
        else:
            last = min(self.page_num * self.list_per_page, self.result_count)
            first = (self.page_num - 1) * self.list_per_page
        return self.paginator.between(first, last)


class ListAdmin(PatientAdmin):
    """The base of all lists; `find` is their search."""

    find: ClassVar[Callable[[QuerySet[Any], str, search.Named], QuerySet[Any]]]
    audited: Kind | None = None
    """What the audit calls these objects: their pages show what people have done to them."""
    changelist_class: type[ChangeList] = StrictChangeList
    paginator = BoundedPaginator
    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # Counts for each choice would read the whole history.

    class Media:
        """The style of the list, of its rows' pages, and of the pages that extend them."""

        css = {"all": ["reportqueue/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the database's time as `now`: lateness is computed by that clock."""
        rows: QuerySet[Any] = super().get_queryset(request).annotate(now=Now())
        return rows

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """As Django's, with the names that titles, breadcrumbs and messages show."""
        found = super().get_object(request, object_id, from_field)
        name_all([found])
        return found

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """As Django's, under the object's name."""
        name_all([obj])
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """As Django's, under the object's name."""
        name_all([obj])
        return super().log_change(request, obj, message)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list's class."""
        return self.changelist_class

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by `find`. A text that it does not understand finds nothing, and the page says so."""
        if "\x00" in request.GET.get(SEARCH_VAR, ""):
            return queryset.none(), False  # Django shows an error, and would then search with an empty text: all rows.
        try:
            named = partial(modifiers_named, request, self.admin_site)
            return type(self).find(queryset, search_term, named), False
        except NotUnderstood as error:
            self.message_user(request, str(error), messages.ERROR)
            return queryset.none(), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list under its own name. If a URL was invalid, the page says that it shows the whole list instead."""
        if request.method == "GET" and ERROR_FLAG in request.GET:
            text = gettext("There is no such filter or page. This is the whole list; nothing was changed.")
            self.message_user(request, text, messages.WARNING)
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """As Django's, with what people have done to the object."""
        if obj is not None and self.audited is not None:
            context |= audit_table.of(request, self.audited, obj.pk)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """As Django's, but 400 if a selected id is not a number."""
        if any(bounds.as_id(given) is None for given in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise BadRequest("The selection must be of ids.")
        return super().response_action(request, queryset, *args, **kwargs)

    def selected_pks(self, request: HttpRequest, rows: QuerySet[Any], most: int) -> list[int]:
        """The ids of the selected rows; of a whole list, at most `most`."""
        if request.POST.get("select_across") == "1":
            return list(rows.order_by().values_list("pk", flat=True)[:most])
        # As posted, not as in `rows`: a row that no longer matches the list's filter has to be reported.
        return list(dict.fromkeys(int(pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)))

    @admin.display(description=_("report"), ordering="report_id")
    def report(self, obj: Any) -> str:
        """The name of the report, and below it its number; its number alone if the catalogue does not have it."""
        name = obj.report_name if hasattr(obj, "report_name") else catalogue.names([obj.report_id]).get(obj.report_id)
        return formats.two_lines(name, str(obj.report_id)) if name else str(obj.report_id)

    @admin.display(description=_("modifier"), ordering="modifier_id")
    def modifier(self, obj: Any) -> str:
        """The name of the modifier, and below it its number; its number alone without `MODIFIER_MODEL`."""
        if not hasattr(obj, "modifier_name"):
            modifiers.name_rows([obj])
        name = obj.modifier_name
        return formats.two_lines(name, str(obj.modifier_id)) if name else str(obj.modifier_id)

    def address(self, name: str, *args: Any) -> str:
        """The URL of one of this model's own pages, in this admin site."""
        page = f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}"
        return reverse(page, args=args, current_app=self.admin_site.name)


class ReadOnlyAdmin(ListAdmin):
    """The base of lists of what nobody adds, changes or deletes by a form, whatever their permissions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False
