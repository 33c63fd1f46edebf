"""Query parameters as the filters of a list have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import django_filters

from reportqueue import bounds
from reportqueue.api.openapi.operations import Parameter
from reportqueue.row_filters import FailureFilter, InstantFilter, NamesFilter


def of_filters(
    filters: type[django_filters.FilterSet], texts: Mapping[str, str], **defaults: Any
) -> tuple[Parameter, ...]:
    """The parameters of these filters, each with its text, and with its default if it has one."""
    found = []
    for name, one in filters.base_filters.items():
        schema = _schema_of(one)
        if name in defaults:
            schema["default"] = defaults[name]
        found.append(Parameter(name, schema, texts[name]))
    return tuple(found)


def _schema_of(one: Any) -> dict[str, Any]:
    if isinstance(one, NamesFilter):
        return {"type": "array", "items": {"type": "string", "maxLength": bounds.MAX_NAME_LENGTH}}
    if isinstance(one, django_filters.MultipleChoiceFilter):
        return {"type": "array", "items": {"type": "string", "enum": _values(one)}}
    if isinstance(one, django_filters.ChoiceFilter):
        return {"type": "string", "enum": _values(one)}
    if isinstance(one, django_filters.NumberFilter):
        return {"type": "integer", "format": "int64", "minimum": 0, "maximum": bounds.MAX_ID}
    if isinstance(one, InstantFilter):
        return {"type": "string", "format": "date-time"}
    if isinstance(one, FailureFilter):
        return {"type": "string", "pattern": "^[0-9a-f]{16}$"}
    return {"type": "string", "maxLength": bounds.MAX_NAME_LENGTH}


def _values(one: Any) -> list[str]:
    return [str(value) for value, _ in one.extra["choices"]]
