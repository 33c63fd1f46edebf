"""The form of a report in the admin. It refuses an edit that would undo another person's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext

from reportqueue.models import Report

if TYPE_CHECKING:
    ReportModelForm = forms.ModelForm[Report]
else:
    ReportModelForm = forms.ModelForm


class ReportForm(ReportModelForm):
    """The form; the report is only changed in memory."""

    version = forms.CharField(required=False, widget=forms.HiddenInput)
    """The report's version when the form was opened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._version = "" if self.instance.pk is None else self.instance.version
        self.initial["version"] = self._version

    def clean(self) -> dict[str, Any]:
        """Refuse the edit if the report has changed meanwhile."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("version") not in ("", None, self._version):
            raise forms.ValidationError(
                gettext(
                    "The report has been changed since you opened this page. Nothing was saved: open it again, and "
                    "make your change to its current version."
                ),
                code="stale",
            )
        return cleaned
