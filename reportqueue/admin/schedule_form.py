"""The form of a schedule. It refuses a schedule that cannot fire, and an edit that would undo another person's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue.admin.params_fields import ParamsFields, not_as_shown
from reportqueue.clock import database_now
from reportqueue.models import ReportSchedule

if TYPE_CHECKING:
    ScheduleModelForm = forms.ModelForm[ReportSchedule]
else:
    ScheduleModelForm = forms.ModelForm

WHAT = _("What")
WHEN = _("When")
SPAN = ("start_at", "end_at")
WHEN_FIELDS: list[Any] = ["cron", "interval_seconds", "timezone", SPAN, ("calendar", "blackout")]
FIELDSETS: list[Any] = [
    (WHAT, {"fields": ["report_id", "modifier_id", "params"]}),
    (WHEN, {"fields": WHEN_FIELDS}),
    (
        _("When things are not as planned"),
        {
            "fields": [
                "catch_up",
                ("catch_up_window_seconds", "catch_up_limit"),
                *("overlap", "jitter_seconds", "unique"),
            ]
        },
    ),
    (_("How"), {"fields": [("priority", "max_attempts"), "enabled"]}),
]


def with_params_fields(fields: ParamsFields) -> type[ScheduleForm]:
    """The form with inputs for the parameters of one report."""
    own = {"params_fields": fields, **fields.declared()}
    return type("ScheduleFormWithParams", (ScheduleForm,), own)


class ScheduleForm(ScheduleModelForm):
    """The form; it validates as saving would. The schedule is only changed in memory."""

    version = forms.IntegerField(required=False, widget=forms.HiddenInput)
    """The schedule's version when the form was opened."""
    params_of = forms.CharField(required=False, widget=forms.HiddenInput)
    """The report whose inputs the page has, instead of a box for JSON; empty for a box."""
    params_fields: ParamsFields | None = None
    """The inputs of its report's parameters, instead of a box for JSON; see `with_params_fields`."""

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        self._not_as_shown = "" if data is None else not_as_shown(data, self.params_fields)
        own = "" if self.params_fields is None else str(self.params_fields.report_id)
        if self._not_as_shown:
            stored = getattr(kwargs.get("instance"), "params", {})
            data = data.copy()
            data["params_of"] = own
            data.setdefault("params", json.dumps(stored, ensure_ascii=False, indent=2))
        super().__init__(data, *args, **kwargs)
        self.initial["params_of"] = own
        if self.instance.pk is not None:
            self.initial["version"] = self.instance.version
        if self.params_fields is not None:
            self.initial.update(self.params_fields.initial())
        for name in SPAN:
            if name in self.fields:  # not in the form of a person who may only view
                field = self.fields[name]
                field.label = gettext("%(label)s (in UTC)") % {"label": field.label}

    def clean(self) -> dict[str, Any]:
        """Refuse the edit if the schedule has changed meanwhile. An instant that was not edited stays exact."""
        cleaned = super().clean() or self.cleaned_data
        if self._not_as_shown:
            self.add_error("report_id", self._not_as_shown)
        elif self.params_fields is not None:
            before = (self.instance.report_id, self.instance.params)
            self.instance.params = self.params_fields.collected(self)
            # As the model does: a schedule that no longer fits can still be paused.
            if self.instance.pk is None or (self.params_fields.report_id, self.instance.params) != before:
                self.params_fields.add_problems(self, self.instance.params)
        if self.instance.pk is None:
            return cleaned
        given = cleaned.get("version")
        if given is not None and given != self.instance.version:
            raise forms.ValidationError(
                gettext(
                    "The schedule has been changed since you opened this page, by another person or by the scheduler. "
                    "Nothing was saved: open it again, and make your change to its current version."
                ),
                code="stale",
            )
        for name in SPAN:
            # The inputs show whole seconds; an instant that was saved otherwise may lie between two.
            if name in cleaned and name not in self.changed_data:
                cleaned[name] = getattr(self.instance, name)
        return cleaned

    def _update_errors(self, errors: ValidationError) -> None:
        """As Django's. What is wrong with parameters is shown at their inputs already."""
        if self.params_fields is not None:
            getattr(errors, "error_dict", {}).pop("params", None)
        super()._update_errors(errors)  # type: ignore[misc]  # the stubs leave it out

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the stubs leave it out
        if self.errors or not self.instance.enabled or not self.changes_timing:
            return
        try:
            self.instance.next_firing(database_now())
        except ValidationError as error:
            self.add_error(None, error)

    @property
    def changes_timing(self) -> bool:
        """Whether saving requires a new plan."""
        return self.instance.pk is None or ReportSchedule.changes_timing(self.changed_data)
