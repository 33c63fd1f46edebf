"""Inputs for one parameter each. They show JSON values as texts, and read exactly the values that they have shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,4000}\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_LINES = re.compile(r"[\r\n]")


class ParamInput(forms.CharField):
    """An input for a text. The schema decides what is valid, and whether it may be empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, empty_value=None, **options)

    def validate(self, value: Any) -> None:
        """Nothing: an empty text may be what is stored. The schema is asked once all inputs are read."""

    def shown(self, value: Any) -> str | None:
        """The text of the input for this value; None if it has none."""
        return value if isinstance(value, str) else None

    def sent(self, text: str) -> str:
        """What a browser sends of that text if nobody touches it."""
        return _LINES.sub("", text)

    def can_show(self, value: Any) -> bool:
        """Whether a person who opens the form and saves it as it is saves this value."""
        text = self.shown(value)
        if text is None:
            return False
        if self.sent(text) != text:
            return False
        try:
            return text == "" or _is_same(self.clean(text), value)
        except ValidationError:
            return False

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether the text is another one than the page showed."""
        return (initial or "") != (data or "")


class DateInput(ParamInput):
    """An input for a date, as a text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.DateInput(attrs={"type": "date"}), **options)

    def sent(self, text: str) -> str:
        """A browser drops what is no date."""
        try:
            return text if date.fromisoformat(text).isoformat() == text else ""
        except ValueError:
            return ""


class NumberInput(ParamInput):
    """An input for a number: exact, and whole if it is written so."""

    def __init__(self, *, of: str, low: Any = None, high: Any = None, **options: Any) -> None:
        bounds = {"min": low, "max": high, "step": None if of == "integer" else "any"}
        attrs = {name: json.dumps(value).strip('"') for name, value in bounds.items() if value is not None}
        super().__init__(widget=forms.NumberInput(attrs=attrs), **options)
        self._of = of

    def shown(self, value: Any) -> str | None:
        """The number as JSON has it."""
        return json.dumps(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def to_python(self, value: Any) -> Any:
        """The number; None for none."""
        text = (super().to_python(value) or "").strip()
        if not text:
            return None
        if (found := number(text)) is None:
            raise ValidationError(_("Enter a whole number.") if self._of == "integer" else _("Enter a number."))
        return found


class ListInput(ParamInput):
    """An input for several numbers or texts, with commas between them."""

    def __init__(self, *, of: str, **options: Any) -> None:
        super().__init__(**options)
        self._of = of

    def shown(self, value: Any) -> str | None:
        """The values, with commas between them."""
        if not isinstance(value, list):
            return None
        return ", ".join(one if isinstance(one, str) else json.dumps(one) for one in value)

    def to_python(self, value: Any) -> Any:
        """The values; None for none."""
        texts = [text.strip() for text in (super().to_python(value) or "").split(",") if text.strip()]
        if not texts:
            return None
        values = texts if self._of == "string" else [number(text) for text in texts]
        if None in values:
            raise ValidationError(
                gettext("Write whole numbers with commas between them.")
                if self._of == "integer"
                else gettext("Write numbers with commas between them.")
            )
        return values

    def can_show(self, value: Any) -> bool:
        """Also an empty list is shown, as an empty text, but not a list of an empty text."""
        return value == [] or (super().can_show(value) and self.shown(value) != "")


class ChoiceInput(forms.TypedChoiceField):
    """An input for one of some values."""

    def __init__(self, choices: Iterable[tuple[Any, Any]], **options: Any) -> None:
        named = [("", "---------"), *((json.dumps(value), label) for value, label in choices)]
        super().__init__(choices=named, coerce=json.loads, empty_value=None, **options)

    def validate(self, value: Any) -> None:
        """Refuse what is no choice; the schema decides whether there must be one."""
        if value not in self.empty_values:
            super().validate(value)

    def shown(self, value: Any) -> str:
        """The key of the choice."""
        return json.dumps(value)

    def can_show(self, value: Any) -> bool:
        """Whether it is one of the choices."""
        return bool(self.valid_value(self.shown(value)))


Input = ParamInput | ChoiceInput


def number(text: str) -> int | float | None:
    """The number that a person has written; None if it is none, or too large for a float and not whole."""
    if _WHOLE.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text):
        return None
    found = float(text)
    return found if abs(found) != float("inf") else None


def input_for(schema: Mapping[str, Any], **options: Any) -> Input:
    """The input for a value with this schema, which is a simple one."""
    if "enum" in schema:
        return ChoiceInput([(value, text_of(value)) for value in schema["enum"]], **options)
    kind = schema["type"]
    if kind == "boolean":
        return ChoiceInput([(True, _("Yes")), (False, _("No"))], **options)
    if kind == "array":
        return ListInput(of=schema["items"]["type"], **options)
    if kind in ("integer", "number"):
        return NumberInput(of=kind, low=schema.get("minimum"), high=schema.get("maximum"), **options)
    return DateInput(**options) if schema.get("format") == "date" else ParamInput(**options)


def text_of(value: Any) -> str:
    """A value for people."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_same(one: Any, other: Any) -> bool:
    """Whether the values are the same to the letter: 3 is not 3.0."""
    return json.dumps(one) == json.dumps(other)
