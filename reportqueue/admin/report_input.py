"""An input for a report's number that suggests the reports of the catalogue by their names."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.html import format_html, format_html_join

from reportqueue import bounds, catalogue
from reportqueue.models import Report

SUGGESTED = 500
"""Reports of the catalogue that the input suggests."""


class ReportInput(forms.NumberInput):
    """A number input with the names of reports, without script."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> Any:
        """The input, its list of suggestions, and the name of the report that it shows."""
        suggested = f"{name}-reports"
        shown = super().render(name, value, {**(attrs or {}), "list": suggested}, renderer)
        entries = Report.objects.order_by("name").values_list("pk", "name")[:SUGGESTED]
        options = format_html_join("", '<option value="{}">{}</option>', entries)
        number = bounds.as_id(str(value)) if value is not None else None
        known = "" if number is None else catalogue.names([number]).get(number, "")
        below = format_html('<span class="rq-below">{}</span>', known) if known else ""
        return format_html('{}<datalist id="{}">{}</datalist>{}', shown, suggested, options, below)
