"""A page that queues one report by hand: new, like a schedule's, or a copy of a row with other parameters."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, catalogue, modifiers, queue
from reportqueue.admin import formats
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.instants import in_utc
from reportqueue.admin.json_input import JSONInput
from reportqueue.admin.modifiers import SuggestingAdmin, use_input
from reportqueue.admin.params_fields import ParamsFields, chosen_or_shown, not_as_shown
from reportqueue.clock import database_now
from reportqueue.errors import RowBusy, RowErased
from reportqueue.models import Report, ReportQueue, ReportSchedule
from reportqueue.models.report import validate_route
from reportqueue.states import Source

SUGGESTED = 500
"""Reports of the catalogue that the input suggests."""


class EnqueueForm(forms.Form):
    """One report, with its parameters as JSON or, if its schema is simple, with an input for each."""

    report_id = forms.IntegerField(
        label=_("Report"), min_value=0, max_value=bounds.MAX_ID, widget=forms.NumberInput(attrs={"list": "rq-reports"})
    )
    modifier_id = forms.IntegerField(label=_("Modifier"), min_value=0, max_value=bounds.MAX_ID)
    params = JSONInput(label=_("Parameters"), required=False, initial=dict, validators=[bounds.validate_json_object])
    trigger_time = forms.DateTimeField(
        required=False,
        widget=forms.DateTimeInput(format="%Y-%m-%dT%H:%M:%S", attrs={"type": "datetime-local", "step": 1}),
        help_text=_("Empty: now. A later instant: it waits in the queue until then."),
    )
    priority = forms.IntegerField(
        label=_("Priority"), required=False, help_text=_("-100 to 100, higher first. Empty: that of the report.")
    )
    route = forms.CharField(
        label=_("Route"), required=False, validators=[validate_route], help_text=_("Empty: that of the report.")
    )
    unique = forms.BooleanField(
        label=_("Only if it is not unfinished already"),
        required=False,
        help_text=_("If the same report with the same modifier and parameters is unfinished, nothing is added."),
    )

    def __init__(self, *args: Any, params_fields: ParamsFields | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._params_fields = params_fields
        self.fields["trigger_time"].label = gettext("Due (in UTC)")
        if params_fields is not None:
            named = params_fields.declared()
            order = ["report_id", "modifier_id", *named, *list(self.fields)[3:]]
            del self.fields["params"]
            self.fields |= named
            self.order_fields(order)
            self.initial.update(params_fields.initial())

    def clean(self) -> dict[str, Any]:
        """With the parameters of the inputs as `params`."""
        cleaned = super().clean() or self.cleaned_data
        if self._params_fields is not None:
            cleaned["params"] = self._params_fields.collected(self)
            self._params_fields.add_problems(self, cleaned["params"])
        return cleaned

    def new_report(self) -> queue.NewReport:
        """What is asked for, once the form is valid."""
        given = self.cleaned_data
        return queue.NewReport(
            report_id=given["report_id"],
            modifier_id=given["modifier_id"],
            params=given["params"] or {},
            trigger_time=given["trigger_time"],
            priority=given["priority"],
            route=given["route"] or None,
            unique=queue.UNFINISHED if given["unique"] else None,
        )

    def add_errors(self, error: ValidationError) -> None:
        """Show each error of the queue at its input; what is said at one already is not said again."""
        for name, texts in getattr(error, "message_dict", {"": error.messages}).items():
            if name == "params" and self._params_fields is not None:
                continue
            self.add_error(name if name in self.fields else None, texts)


class EnqueuingAdmin(SuggestingAdmin, ListAdmin):
    """The page, for the queue's list."""

    def get_urls(self) -> list[Any]:
        """Django's, and the address of this page."""
        view = self.admin_site.admin_view(self.enqueue_view)
        return [path("enqueue/", view, name="reportqueue_reportqueue_enqueue"), *super().get_urls()]

    def may_enqueue(self, request: HttpRequest) -> bool:
        """Whether this person may queue reports, and see them."""
        return self.has_view_permission(request) and request.user.has_perm("reportqueue.add_reportqueue")

    @in_utc
    def enqueue_view(self, request: HttpRequest) -> HttpResponse:
        """GET: the form, filled as the row, the schedule or the report in the address. POST: queue it."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if not self.may_enqueue(request):
            raise PermissionDenied
        data = request.POST if request.method == "POST" else None
        try:
            initial = _initial(request)
        except RowErased:
            text = gettext("The data of this report were erased: there is nothing to copy.")
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(self.address("change", bounds.as_id(request.GET["copy_of"])))
        report_id = initial.get("report_id")
        shown = report_id if data is None else chosen_or_shown(data)
        stored = initial.get("params", {}) if shown in (report_id, None) else {}
        fields = ParamsFields.of(shown, stored)
        if data is not None:
            report_id = bounds.as_id(data.get("report_id", ""))
            if said := not_as_shown(data, fields):
                self.message_user(request, said, messages.WARNING)
                initial, data = {**data.dict(), "params": stored}, None
        form = EnqueueForm(data, params_fields=fields, initial=initial)
        use_input(form.fields["modifier_id"], self.admin_site)
        if data is not None and form.is_valid():
            try:
                with self.bounded():
                    return self._enqueue(request, form)
            except RowBusy as error:
                form.add_error(None, str(error))
            except ValidationError as error:
                form.add_errors(error)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Queue a report"),
            "opts": self.opts,
            "media": self.media + form.media,
            "has_view_permission": True,
            "form": form,
            "params_of": "" if fields is None else fields.report_id,
            "report": None if report_id is None else Report.objects.filter(pk=report_id).first(),
            "reports": Report.objects.order_by("name")[:SUGGESTED],
            "now": formats.instant_text(database_now()),
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, "admin/reportqueue/enqueue.html", context)

    def _enqueue(self, request: HttpRequest, form: EnqueueForm) -> HttpResponse:
        (done,) = queue.enqueue_many([form.new_report()], source=Source.ADMIN)
        row = done.row
        label = catalogue.label(row.report_id, catalogue.names([row.report_id]).get(row.report_id))
        modifier = catalogue.label(row.modifier_id, modifiers.names([row.modifier_id]).get(row.modifier_id))
        link = format_html('<a href="{}">#{}</a>', self.address("change", row.pk), row.pk)
        if done.created:
            self.log_addition(request, row, "Queued by hand in the admin")
            text = gettext("Queued: report {label}, modifier {modifier}, {link}, due {due}.")
        else:
            text = gettext("Nothing was added: report {label}, modifier {modifier} is unfinished already, {link}.")
        due = formats.instant_text(row.trigger_time)
        said = format_html(text, label=label, modifier=modifier, link=link, due=due)
        self.message_user(request, said, messages.SUCCESS if done.created else messages.WARNING)
        return HttpResponseRedirect(self.address("change", row.pk))


def _initial(request: HttpRequest) -> dict[str, Any]:
    """What the form shows at first: of the row or the schedule that the address names, or of a report.

    Raises `RowErased` for a row whose data were erased.
    """
    for name, model in (("copy_of", ReportQueue), ("schedule", ReportSchedule)):
        pk = bounds.as_id(request.GET.get(name, ""))
        found: Any = None if pk is None else model._default_manager.filter(pk=pk).first()
        if found is not None:
            if name == "copy_of" and found.erased_at is not None:
                raise RowErased
            chosen = {"report_id": found.report_id, "modifier_id": found.modifier_id, "params": found.params}
            return chosen | {"priority": found.priority} | ({"route": found.route} if name == "copy_of" else {})
    report_id = bounds.as_id(request.GET.get("report_id", ""))
    return {} if report_id is None else {"report_id": report_id}
