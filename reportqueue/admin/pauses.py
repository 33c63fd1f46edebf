"""What is paused, in the admin: the queue, routes and reports; made here, and ended here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import queue
from reportqueue.admin import formats, search
from reportqueue.admin.actions import MAX_AT_ONCE
from reportqueue.admin.changelists import ListAdmin, name_all
from reportqueue.admin.report_input import ReportInput
from reportqueue.models import Pause
from reportqueue.models.pause import Scope

if TYPE_CHECKING:
    PauseModelForm = forms.ModelForm[Pause]
else:
    PauseModelForm = forms.ModelForm


class PauseForm(PauseModelForm):
    """What is to be paused, and why."""

    class Meta:
        model = Pause
        fields = ["scope", "route", "report_id", "note"]
        widgets = {"report_id": ReportInput}
        help_texts = {
            "scope": _("Nothing of it is claimed until it is resumed. What is under way ends; schedules go on."),
            "route": _("For the scope “A route” only: its name, such as finance."),
            "report_id": _("For the scope “A report” only: its number. Type a part of its name to find it."),
            "note": _("Why, and until when. Everybody who sees the queue reads it."),
        }

    def clean(self) -> dict[str, Any]:
        """Refuse a route without its name, and what does not belong to the chosen scope."""
        cleaned = super().clean() or self.cleaned_data
        scope = cleaned.get("scope")
        wanted = {Scope.ROUTE: "route", Scope.REPORT: "report_id"}.get(Scope(scope)) if scope else None
        for name in ("route", "report_id"):
            given = cleaned.get(name) not in (None, "")
            if name == wanted and not given and name not in self.errors:
                self.add_error(name, gettext("Say which one is to be paused."))
            elif name != wanted and given:
                self.add_error(name, gettext("Leave this empty, or choose another scope."))
        if scope and not self.errors:
            there = Pause.objects.filter(scope=scope, route=cleaned["route"], report_id=cleaned["report_id"]).first()
            if there is not None:
                name_all([there])
                raise forms.ValidationError(already_paused(there))
        return cleaned

    def validate_constraints(self) -> None:
        """What they would refuse has been said, in words."""


@admin.register(Pause)
class PauseAdmin(ListAdmin):
    """The pauses. To end one is to delete it; it cannot be changed."""

    form = PauseForm
    list_display = ["what", "since", "paused_by", "note"]
    find = search.find_pauses
    search_fields = ["note"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A part of the note or of the name of who paused it, or a route.")
    fields = ["scope", "route", "report_id", "note"]
    actions = ["resume_selected"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Their own permission."""
        return request.user.has_perm("reportqueue.pause_reportqueue")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The same."""
        return self.has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """End it and make another."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Anybody who may see the queue may see what is paused."""
        return request.user.has_perm("reportqueue.view_reportqueue") or super().has_view_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Pause, form: Any, change: bool) -> None:
        """Pause it. A pause that is there already is left as it is, and said."""
        made = queue.pause(route=obj.route, report_id=obj.report_id, by=request.user.get_username(), note=obj.note)
        if made.was_there:
            self.message_user(request, already_paused(made), messages.WARNING)
        if doubt := queue.doubt(made):
            self.message_user(request, doubt, messages.WARNING)
        obj.pk, obj.paused_at, obj.paused_by = made.pk, made.paused_at, made.paused_by

    def delete_model(self, request: HttpRequest, obj: Pause) -> None:
        """Resume it."""
        queue.resume(route=obj.route, report_id=obj.report_id, by=request.user.get_username())

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without Django's "delete selected": it would ask whether to delete what is resumed."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    @admin.action(description=_("Resume the selected"), permissions=["delete"])
    def resume_selected(self, request: HttpRequest, selected: QuerySet[Pause]) -> None:
        """End all of these pauses or none."""
        pauses = Pause.objects.filter(pk__in=self.selected_pks(request, selected, MAX_AT_ONCE))
        by = request.user.get_username()
        with self.bounded():
            self.log_deletions(request, pauses)
            ended = [queue.resume(route=one.route, report_id=one.report_id, by=by) for one in pauses]
        text = ngettext("%(count)s pause ended.", "%(count)s pauses ended.", sum(ended))
        level = messages.SUCCESS if any(ended) else messages.WARNING
        self.message_user(request, text % {"count": f"{sum(ended):,}"}, level)

    @admin.display(description=_("paused"))
    def what(self, pause: Pause) -> str:
        """The queue, the route or the report, by its name."""
        return pause.named

    @admin.display(description=_("since"))
    def since(self, pause: Pause) -> str:
        """When it was paused."""
        return formats.instant(pause.paused_at)


def already_paused(pause: Pause) -> str:
    """What a person is told who pauses it a second time."""
    return gettext("It was paused already: %(pause)s.") % {"pause": formats.sentence(pause)}
