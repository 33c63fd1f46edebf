"""The input of a JSON field in the admin's forms: no text that a person types is a server error."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput, JSONString

from reportqueue import bounds


class JSONInput(forms.JSONField):
    """As Django's, with the bounds of the API's JSON. A refused text is shown again as it was typed."""

    def to_python(self, value: Any) -> Any:
        """Raises `ValidationError` for a text that is not JSON, or beyond its bounds."""
        if self.disabled or not isinstance(value, str) or isinstance(value, JSONString) or value in self.empty_values:
            return super().to_python(value)
        found = bounds.parse_json(value)
        return JSONString(found) if isinstance(found, str) else found

    def prepare_value(self, value: Any) -> Any:
        """The JSON as a person reads it, in lines."""
        if isinstance(value, InvalidJSONInput) or value is None:
            return value
        return json.dumps(value, ensure_ascii=False, indent=2, cls=self.encoder)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """The text as it was typed: Django would parse it without bounds, and write it anew."""
        return initial if self.disabled or data is None else InvalidJSONInput(data)
