"""Which JSON Schemas are accepted: those that are one, that refer to themselves alone, and that end.

Every part that may be applied to a value is checked: the parts that keywords such as `properties` hold, and the parts
that a `$ref` leads to. A value, such as one of `enum`, is no part: a `"$ref"` in it is a name like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from reportqueue.json_values import quoted
from reportqueue.linear_regex import REMEDY, BadRegex, Regex
from reportqueue.schema_evaluation import Budget, Evaluation, Schema

Place = tuple[str | int, ...]
"""The names and numbers that lead to a part, from the outside."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_REGEXES = 100
"""Different regular expressions of one schema. Each has a cache of its own while it is matched."""
MAX_REGEX_WORK = 500_000
"""Instructions of them all."""
MAX_APPLIED = 10_000
"""Parts that a part may apply to one value, counted as often as they are applied."""
MAX_DEEP = 50
"""Parts that may be applied to one value by one another, each by the one before."""
CIRCLE = "refers to itself in a circle that no parameters end"
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
CHECK_STEPS = 2_000_000
"""Of the check itself; a schema of 64 KiB needs a tenth of it."""

_ONE = (
    *("additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_SAME_VALUE = {"not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas", "$ref"}
"""The keywords that apply other parts to the value itself, not to what is in it."""
_REFUSED = {
    **dict.fromkeys(("$id", "$anchor", "$dynamicAnchor", "$recursiveAnchor"), "a part is found by its place alone"),
    **dict.fromkeys(("$dynamicRef", "$recursiveRef"), "use '$ref'"),
    "$vocabulary": "the keywords are those of draft 2020-12",
}
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_NAMES = {"type": "array", "items": _TEXT, "uniqueItems": True}
_KINDS = {"enum": ["array", "boolean", "integer", "null", "number", "object", "string"]}
_SHAPES: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("type",), {"anyOf": [_KINDS, {"type": "array", "items": _KINDS, "minItems": 1, "uniqueItems": True}]}),
    (_LISTS, {"type": "array", "minItems": 1}),
    (_MAPS, {"type": "object"}),
    (("enum", "examples"), {"type": "array"}),
    (("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"), {"type": "number"}),
    (("multipleOf",), {"type": "number", "exclusiveMinimum": 0}),
    (("maxLength", "minLength", "maxItems", "minItems", "maxContains", "minContains"), _COUNT),
    (("maxProperties", "minProperties"), _COUNT),
    (("uniqueItems", "deprecated", "readOnly", "writeOnly"), {"type": "boolean"}),
    (("$ref", "$schema", "$comment", "title", "description", "format", "pattern"), _TEXT),
    (("contentEncoding", "contentMediaType"), _TEXT),
    (("required",), _NAMES),
    (("dependentRequired",), {"type": "object", "additionalProperties": _NAMES}),
]
_KEYWORDS = {name: shape for names, shape in _SHAPES for name in names}
_SHAPE = Schema({"type": ["object", "boolean"], "properties": _KEYWORDS})
"""A part of a schema, without the parts in it: they are checked one by one."""


class BadSchema(Exception):
    """The schema is refused; the message names the place and the remedy."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


def check(root: Any) -> Schema:
    """The schema, ready to be evaluated. Raises `BadSchema`, and `TooMuchWork` for one that is very large."""
    return _Check(root).result()


@dataclass(eq=False)
class _Part:
    """A part of the schema that may be applied to a value."""

    place: Place
    schema: Any
    same_value: list[_Part] = field(default_factory=list)
    """The parts that it applies to the same value, once each."""
    applied: int = 0
    """How many parts it applies to one value at most, itself and theirs included; 0 before they are counted."""
    deep: int = 0
    """How many of them apply one another."""


class _Check:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._budget = Budget(CHECK_STEPS)
        self._parts: dict[Place, _Part] = {}
        self._waiting: list[_Part] = []
        self._targets: dict[str, Any] = {}
        self._regexes: dict[str, Regex] = {}

    def result(self) -> Schema:
        """The checked schema. Raises `BadSchema`."""
        self._part((), self._root)
        while self._waiting:
            self._check(self._waiting.pop())
        for part in self._parts.values():
            self._count(part)
        return Schema(self._root, self._targets, self._regexes)

    def _part(self, place: Place, schema: Any) -> _Part:
        """The part at this place, which is checked once."""
        if (part := self._parts.get(place)) is None:
            part = self._parts[place] = _Part(place, schema)
            self._waiting.append(part)
        return part

    def _check(self, part: _Part) -> None:
        """Check one part without the parts in it, and note those."""
        schema, place = part.schema, part.place
        for problem in Evaluation(_SHAPE, self._budget).problems(schema):
            raise BadSchema((*place, *problem.steps), problem.message)
        if isinstance(schema, bool):
            return
        for keyword, value in schema.items():
            here = (*place, keyword)
            if keyword in _REFUSED:
                raise BadSchema(here, f"is not supported: {_REFUSED[keyword]}")
            if keyword == "$schema" and value != DIALECT:
                raise BadSchema(here, f"must be {DIALECT!r} or left out; it is {quoted(value)}")
            if keyword == "pattern":
                self._add_regex(value, here)
            elif keyword == "patternProperties":
                for pattern in value:
                    self._add_regex(pattern, (*here, pattern))
            for inner_place, inner in self._inner(keyword, value, here):
                found = self._part(inner_place, inner)
                if keyword in _SAME_VALUE:
                    part.same_value.append(found)

    def _inner(self, keyword: str, value: Any, here: Place) -> Iterator[tuple[Place, Any]]:
        """The parts that a keyword applies, with their places."""
        if keyword == "$ref":
            yield self._target(value, here)
        elif keyword in _ONE:
            yield here, value
        elif keyword in _LISTS:
            yield from (((*here, number), one) for number, one in enumerate(value))
        elif keyword in _MAPS:
            yield from (((*here, name), one) for name, one in value.items())

    def _target(self, reference: str, here: Place) -> tuple[Place, Any]:
        """The place that a reference leads to, and what is there."""
        pointer = unquote(reference.removeprefix("#"))
        if not reference.startswith("#") or (pointer and not pointer.startswith("/")):
            text = f"refers to {quoted(reference)}; a schema may refer to its own parts alone, such as '#/$defs/name'"
            raise BadSchema(here, text)
        found, place = self._root, []
        for step in (one.replace("~1", "/").replace("~0", "~") for one in pointer.split("/")[1:]):
            key = _key(found, step)
            if key is None:
                raise BadSchema(here, f"{quoted(reference)} leads nowhere")
            found = found[key]
            place.append(key)
        if not isinstance(found, bool | Mapping):
            raise BadSchema(here, f"{quoted(reference)} leads to {quoted(found)}, which is no schema")
        self._targets[reference] = found
        return tuple(place), found

    def _add_regex(self, text: str, here: Place) -> None:
        if text in self._regexes:
            return
        try:
            regex = Regex(text)
        except BadRegex as error:
            said = f"{quoted(text)} is not a regular expression that takes linear time ({error}): {REMEDY}"
            raise BadSchema(here, said) from None
        self._regexes[text] = regex
        if len(self._regexes) > MAX_REGEXES:
            raise BadSchema(here, f"the schema has more than {MAX_REGEXES} regular expressions")
        if sum(one.work for one in self._regexes.values()) > MAX_REGEX_WORK:
            raise BadSchema(here, "the regular expressions of the schema are too large together")

    def _count(self, first: _Part) -> None:
        """Count what a part applies to one value. Refuses circles, and what grows beyond bounds."""
        under_way = {first: iter(first.same_value)} if not first.applied else {}
        while under_way:
            part, rest = next(reversed(under_way.items()))
            inner = next((one for one in rest if not one.applied), None)
            if inner in under_way:
                raise BadSchema(part.place, CIRCLE)
            if inner is not None:
                under_way[inner] = iter(inner.same_value)
                continue
            del under_way[part]
            part.applied = 1 + sum(one.applied for one in part.same_value)
            part.deep = 1 + max((one.deep for one in part.same_value), default=0)
            if part.applied > MAX_APPLIED:
                text = f"applies more than {MAX_APPLIED:,} parts of the schema to one value"
                raise BadSchema(part.place, f"{text}: refer to fewer, or to each once")
            if part.deep > MAX_DEEP:
                raise BadSchema(part.place, f"goes through more than {MAX_DEEP} parts of the schema for one value")


def _key(container: Any, step: str) -> Any:
    """What a step of a pointer means there; None if there is no such thing."""
    if isinstance(container, Mapping):
        return step if step in container else None
    if isinstance(container, list) and _INDEX.fullmatch(step) and int(step) < len(container):
        return int(step)
    return None
