"""Inputs for a report's parameters, made from its JSON Schema. What they do not know of it is checked all the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import catalogue
from reportqueue.models.report import Report

PREFIX = "params__"
MAX_FIELDS = 30
"""For a schema with more properties a box for JSON is easier to read."""
SIMPLE = {"string", "integer", "number", "boolean"}
KNOWN = {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}
"""Keywords of a schema for which inputs can be made."""
KNOWN_OF_VALUE = {
    *("type", "enum", "const", "format", "title", "description", "default", "examples", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern"),
    *("items", "minItems", "maxItems", "uniqueItems"),
}
DATE = "date"


class ListInput(forms.CharField):
    """Several numbers or texts, with commas between them."""

    def __init__(self, of: str, **options: Any) -> None:
        super().__init__(**options)
        self._of = of

    def prepare_value(self, value: Any) -> Any:
        """As a person writes it."""
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        """The values; None for none."""
        texts = [text.strip() for text in (super().to_python(value) or "").split(",") if text.strip()]
        if not texts:
            return None
        try:
            return texts if self._of == "string" else [_number(text, self._of) for text in texts]
        except ValueError:
            text = gettext("Write whole numbers with commas between them.")
            if self._of == "number":
                text = gettext("Write numbers with commas between them.")
            raise ValidationError(text) from None


def _number(text: str, kind: str) -> int | float:
    return int(text) if kind == "integer" else float(text)


@dataclass(frozen=True)
class ParamsFields:
    """The inputs of one report's parameters, by the names of the parameters."""

    report_id: int
    fields: Mapping[str, forms.Field]

    @classmethod
    def of(cls, report_id: int | None, params: Any) -> ParamsFields | None:
        """Those of a report with a simple schema; None if there is none, or if these parameters have others.

        Then a box for JSON is right.
        """
        report = None if report_id is None else Report.objects.filter(pk=report_id).first()
        schema = None if report is None else report.params_schema
        if report is None or not schema or not _is_simple(schema):
            return None
        named = schema["properties"]
        if not isinstance(params, Mapping) or params.keys() - named.keys():
            return None
        defaults = report.default_params
        required = set(schema.get("required", ())) - defaults.keys()
        return cls(
            report.pk,
            {
                name: _field(name, named[name], name in required, defaults.get(name))
                # The database does not keep their order.
                for name in sorted(named, key=lambda name: (name not in required, str(named[name].get("title", name))))
            },
        )

    @property
    def names(self) -> list[str]:
        """The names of the inputs in a form."""
        return list(self.declared())

    def declared(self) -> dict[str, forms.Field]:
        """The inputs, as a form declares them."""
        return {f"{PREFIX}{name}": field for name, field in self.fields.items()}

    def initial(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the inputs show of these parameters."""
        return {f"{PREFIX}{name}": _shown(field, params[name]) for name, field in self.fields.items() if name in params}

    def collected(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that a person has given; an empty input is none."""
        given = {name: cleaned.get(f"{PREFIX}{name}") for name in self.fields}
        return {name: _json(value) for name, value in given.items() if value not in (None, "")}

    def add_problems(self, form: forms.BaseForm, params: Mapping[str, Any]) -> None:
        """Show what of the parameters does not fit the schema, each at its input; once all inputs can be read."""
        if form.errors.keys() & set(self.names):
            return
        try:
            catalogue.terms([self.report_id])[self.report_id].params(params)
        except ValidationError as error:
            for message in error.messages:
                place = message.removeprefix("params.").partition(":")[0].partition("[")[0].partition(".")[0]
                form.add_error(f"{PREFIX}{place}" if place in self.fields else None, message)


def _is_simple(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not 0 < len(properties) <= MAX_FIELDS or schema.keys() - KNOWN:
        return False
    return all(isinstance(one, dict) and _is_simple_value(one) for one in properties.values())


def _is_simple_value(one: Mapping[str, Any]) -> bool:
    if one.keys() - KNOWN_OF_VALUE:
        return False
    if "enum" in one:
        return all(isinstance(value, str | int | float | bool) for value in one["enum"])
    if one.get("type") == "array":
        items = one.get("items")
        return (
            isinstance(items, dict) and items.get("type") in SIMPLE - {"boolean"} and not items.keys() - KNOWN_OF_VALUE
        )
    return one.get("type") in SIMPLE


def _field(name: str, one: Mapping[str, Any], required: bool, default: Any) -> forms.Field:
    default = one.get("default") if default is None else default
    hints = [str(one["description"])] if "description" in one else []
    if default is not None:
        hints.append(gettext("Without it: %(default)s.") % {"default": _text(default)})
    options: dict[str, Any] = {
        "label": str(one.get("title", name)),
        "required": required,
        "help_text": " ".join(hints),
    }
    if "enum" in one:
        return _choice([(json.dumps(value), _text(value)) for value in one["enum"]], options)
    kind = one["type"]
    if kind == "boolean":
        return _choice([("true", _("Yes")), ("false", _("No"))], options)
    if kind == "array":
        return ListInput(one["items"]["type"], **options)
    if kind in ("integer", "number"):
        number = forms.IntegerField if kind == "integer" else forms.FloatField
        return number(min_value=one.get("minimum"), max_value=one.get("maximum"), **options)
    if one.get("format") == DATE:
        return forms.DateField(widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}), **options)
    return forms.CharField(min_length=one.get("minLength"), max_length=one.get("maxLength"), strip=False, **options)


def _choice(choices: list[tuple[str, Any]], options: dict[str, Any]) -> forms.Field:
    return forms.TypedChoiceField(choices=[("", "---------"), *choices], coerce=json.loads, empty_value=None, **options)


def _shown(field: forms.Field, value: Any) -> Any:
    return json.dumps(value) if isinstance(field, forms.TypedChoiceField) else value


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
