"""Inputs for a report's parameters, made from its JSON Schema. What they do not know of it is checked all the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext

from reportqueue import bounds, catalogue
from reportqueue.admin.params_inputs import Input, input_for, text_of
from reportqueue.json_values import quoted
from reportqueue.models.report import Report

PREFIX = "params__"
MAX_FIELDS = 30
"""For a schema with more properties a box for JSON is easier to read."""
SIMPLE = ("string", "integer", "number", "boolean")
SIMPLE_ITEMS = ("string", "integer", "number")
KNOWN = {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}
"""Keywords of a schema for which inputs can be made."""
KNOWN_OF_VALUE = {
    *("type", "enum", "const", "format", "title", "description", "default", "examples", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern"),
    *("items", "minItems", "maxItems", "uniqueItems"),
}


@dataclass(frozen=True)
class ParamsFields:
    """The inputs of one report's parameters, by the names of the parameters."""

    report_id: int
    fields: Mapping[str, Input]
    required: frozenset[str]
    stored: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that the inputs show. An input that nobody touches keeps its own exactly."""

    @classmethod
    def of(cls, report_id: int | None, params: Any) -> ParamsFields | None:
        """Those of a report with a simple schema; None if there is none, or if inputs cannot show these parameters.

        Then a box for JSON is right.
        """
        report = None if report_id is None else Report.objects.filter(pk=report_id).first()
        schema = None if report is None else report.params_schema
        if report is None or not schema or not _is_simple(schema):
            return None
        named = schema["properties"]
        defaults = report.default_params
        required = frozenset(schema.get("required", ())) - defaults.keys()
        fields = {
            name: _field(name, named[name], name in required, defaults.get(name))
            # The database does not keep their order.
            for name in sorted(named, key=lambda name: (name not in required, str(named[name].get("title", name))))
        }
        if not isinstance(params, Mapping) or params.keys() - named.keys():
            return None
        if not all(fields[name].can_show(value) for name, value in params.items()):
            return None
        return cls(report.pk, fields, required, params)

    @property
    def names(self) -> list[str]:
        """The names of the inputs in a form."""
        return list(self.declared())

    def declared(self) -> dict[str, forms.Field]:
        """The inputs, as a form declares them."""
        return {f"{PREFIX}{name}": field for name, field in self.fields.items()}

    def initial(self) -> dict[str, Any]:
        """The texts that the inputs show."""
        return {f"{PREFIX}{name}": self.fields[name].shown(value) for name, value in self.stored.items()}

    def collected(self, form: forms.BaseForm) -> dict[str, Any]:
        """The parameters that a person has given; an input that was emptied is none."""
        changed, found = set(form.changed_data), {}
        for name in self.fields:
            if f"{PREFIX}{name}" not in changed:
                if name in self.stored:
                    found[name] = self.stored[name]
            elif (value := form.cleaned_data.get(f"{PREFIX}{name}")) is not None:
                found[name] = value
        return found

    def add_problems(self, form: forms.BaseForm, params: Mapping[str, Any]) -> None:
        """Show what of the parameters does not fit the schema, each at its input; once all inputs can be read."""
        if form.errors.keys() & set(self.names):
            return
        missing = {f"params: {quoted(name)} is a required property.": name for name in self.required - params.keys()}
        try:
            catalogue.terms([self.report_id])[self.report_id].params(params)
        except ValidationError as error:
            for message in error.messages:
                if (name := missing.get(message)) is not None:
                    form.add_error(f"{PREFIX}{name}", forms.Field.default_error_messages["required"])
                    continue
                place = message.removeprefix("params.").partition(":")[0].partition("[")[0].partition(".")[0]
                form.add_error(f"{PREFIX}{place}" if place in self.fields else None, message)


def chosen_or_shown(data: Mapping[str, Any]) -> int | None:
    """The report whose inputs a posted form needs: the chosen one, if the form had inputs and not a box."""
    chosen, shown = _chosen(data), _shown(data)
    return chosen if shown is not None and chosen is not None else shown


def not_as_shown(data: Mapping[str, Any], fields: ParamsFields | None) -> str:
    """What to tell a person whose form had other inputs than it has now; empty if they are the same."""
    chosen, shown = _chosen(data), _shown(data)
    if shown is not None and chosen is not None and chosen != shown:
        label = catalogue.label(chosen, catalogue.names([chosen]).get(chosen))
        text = gettext("You have chosen another report. Its parameters are shown now, those of %(report)s: check them.")
        return text % {"report": label}
    if shown is not None and fields is None:
        return gettext("The report's schema or these parameters have changed meanwhile: check the parameters.")
    return ""


def _chosen(data: Mapping[str, Any]) -> int | None:
    return bounds.as_id(data.get("report_id", ""))


def _shown(data: Mapping[str, Any]) -> int | None:
    """The report whose inputs the form had; None if it had a box."""
    return bounds.as_id(data.get("params_of", ""))


def _is_simple(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not 0 < len(properties) <= MAX_FIELDS or schema.keys() - KNOWN:
        return False
    if set(schema.get("required", ())) - properties.keys():
        return False  # there would be no input for it
    return all(
        name.isprintable() and isinstance(one, dict) and _is_simple_value(one) for name, one in properties.items()
    )


def _is_simple_value(one: Mapping[str, Any]) -> bool:
    kind = one.get("type")
    if one.keys() - KNOWN_OF_VALUE:
        return False
    if "enum" in one:
        return bool(one["enum"]) and all(isinstance(value, str | int | float | bool) for value in one["enum"])
    if kind == "array":
        items = one.get("items")
        return isinstance(items, dict) and items.get("type") in SIMPLE_ITEMS and not items.keys() - KNOWN_OF_VALUE
    return kind in SIMPLE


def _field(name: str, one: Mapping[str, Any], required: bool, default: Any) -> Input:
    default = one.get("default") if default is None else default
    hints = [str(one["description"])] if "description" in one else []
    if default is not None:
        hints.append(gettext("Without it: %(default)s.") % {"default": text_of(default)})
    return input_for(one, label=str(one.get("title", name)), required=required, help_text=" ".join(hints))
