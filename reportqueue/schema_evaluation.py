"""Evaluates a JSON Schema (draft 2020-12) against a value, in bounded time and memory, and fetches nothing.

Each keyword that is applied, each part of a value and each comparison is a step, and the steps of an evaluation are
counted: a schema of a few lines can ask for more of them than any machine can do. `schema_check` decides which schemas
come here, and resolves their references.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from reportqueue import schema_formats
from reportqueue.json_values import canonical, quoted
from reportqueue.linear_regex import Regex

SHOWN = 10
"""Unexpected names that a message has."""
Path = tuple[Any, Any] | None
"""The place of a value: the place of what it is in, and its name or number there."""


def steps_of(path: Path) -> list[Any]:
    """The names and numbers of a path, from the outside."""
    found = []
    while path is not None:
        path, step = path
        found.append(step)
    return found[::-1]


class TooMuchWork(Exception):
    """The steps are used up."""


class CannotEvaluate(Exception):
    """A keyword failed at a place, by a fault of ours: the value is neither right nor wrong."""

    def __init__(self, path: Path, keyword: str) -> None:
        super().__init__(keyword)
        self.steps, self.keyword = steps_of(path), keyword


@dataclass
class Budget:
    """The steps that are left to one or more evaluations."""

    left: int

    def spend(self, steps: int) -> None:
        """Raises `TooMuchWork`."""
        self.left -= steps
        if self.left < 0:
            raise TooMuchWork


@dataclass(frozen=True)
class Schema:
    """A schema that has been checked, with the parts that its references lead to and its regular expressions."""

    root: Any
    targets: Mapping[str, Any] = field(default_factory=dict)
    regexes: Mapping[str, Regex] = field(default_factory=dict)


class Problem:
    """What is wrong with a value, and where."""

    __slots__ = ("_quotes", "_text", "excludes", "path")

    def __init__(self, path: Path, text: str, *quotes: Any, excludes: bool = False) -> None:
        """`text` has `{}` for each of the values that it quotes.

        `excludes`: the value is of another type, or another choice. The schema was hardly meant for it.
        """
        # The text is made only for who reads it: values may be long, and most problems are those of alternatives.
        self.path, self._text, self._quotes, self.excludes = path, text, quotes, excludes

    @property
    def message(self) -> str:
        """What is wrong."""
        return self._text.format(*map(quoted, self._quotes))

    @property
    def steps(self) -> list[Any]:
        """The names and numbers that lead to the value, from the outside."""
        return steps_of(self.path)


class Evaluation:
    """One evaluation of a schema. `partial`: what the outermost object lacks is not a problem."""

    def __init__(self, schema: Schema, budget: Budget, *, partial: bool = False) -> None:
        self._schema, self._budget, self._partial = schema, budget, partial

    def problems(self, value: Any) -> Iterator[Problem]:
        """What is wrong with the value. Raises `TooMuchWork`, `CannotEvaluate`, `RecursionError`."""
        return self._problems(self._schema.root, value, None)

    def _problems(self, schema: Any, value: Any, path: Path) -> Iterator[Problem]:
        self._budget.spend(1)
        if isinstance(schema, bool):
            if not schema:
                yield Problem(path, "{} is not allowed here", value, excludes=True)
            return
        lenient = self._partial and path is None
        for keyword in schema:
            apply = _KEYWORDS.get(keyword)
            if apply is None or (lenient and keyword in _OF_WHAT_IS_THERE):
                continue
            self._budget.spend(1)
            try:
                yield from apply(self, schema[keyword], value, path, schema)
            except (TooMuchWork, CannotEvaluate, RecursionError):
                raise
            except Exception as error:
                raise CannotEvaluate(path, keyword) from error

    def _fits(self, schema: Any, value: Any, path: Path) -> bool:
        return next(self._problems(schema, value, path), None) is None

    def _found(self, pattern: str, text: str) -> bool:
        regex = self._schema.regexes[pattern]
        self._budget.spend(regex.steps(text))
        return regex.found_in(text)

    def _same(self, value: Any) -> str:
        text = canonical(value)
        self._budget.spend(1 + len(text) // 10)
        return text

    # Any value

    def _type(self, types: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        named = [types] if isinstance(types, str) else types
        if not any(_TYPES[one](value) for one in named):
            yield Problem(path, f"{{}} is not of type {', '.join(map(repr, named))}", value, excludes=True)

    def _enum(self, choices: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        own = self._same(value)
        if not any(self._same(one) == own for one in choices):
            yield Problem(path, "{} is not one of {}", value, choices, excludes=True)

    def _const(self, choice: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if self._same(choice) != self._same(value):
            yield Problem(path, "{} was expected", choice, excludes=True)

    def _ref(self, reference: str, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        return self._problems(self._schema.targets[reference], value, path)

    def _all_of(self, schemas: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        for one in schemas:
            yield from self._problems(one, value, path)

    def _any_of(self, schemas: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        meant = []
        for one in schemas:
            first, excluded = None, False
            for problem in self._problems(one, value, path):
                first = first or problem
                excluded = excluded or (problem.excludes and problem.path == path)
            if first is None:
                return
            if not excluded:
                meant.append(first)
        yield meant[0] if len(meant) == 1 else _fits_none(value, path)

    def _one_of(self, schemas: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        fitting = sum(self._fits(one, value, path) for one in schemas)
        if not fitting:
            yield from self._any_of(schemas, value, path, schema)
        elif fitting > 1 and not (self._partial and path is None):
            yield Problem(path, "{} is valid under {} of the given schemas, not under one alone", value, fitting)

    def _not(self, refused: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if self._fits(refused, value, path):
            yield Problem(path, "{} should not be valid under {}", value, refused)

    def _if(self, condition: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        then = "then" if self._fits(condition, value, path) else "else"
        return self._problems(schema.get(then, True), value, path)

    # Texts and numbers

    def _pattern(self, pattern: str, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, str) and not self._found(pattern, value):
            yield Problem(path, "{} does not match {}", value, pattern)

    def _format(self, name: str, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, str):
            self._budget.spend(schema_formats.steps(name, value))
            if not schema_formats.fits(name, value):
                yield Problem(path, "{} is not a {}", value, name)

    def _multiple_of(self, divisor: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        # Exact, by the decimal numbers that people write: 0.3 is a multiple of 0.1.
        if not _is_number(value):
            return
        self._budget.spend(10)
        if Fraction(str(value)) % Fraction(str(divisor)):
            yield Problem(path, "{} is not a multiple of {}", value, divisor)

    # Objects

    def _required(self, names: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, Mapping):
            self._budget.spend(len(names))
            for name in names:
                if name not in value:
                    yield Problem(path, "{} is a required property", name)

    def _dependent_required(self, names: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, Mapping):
            for name, needed in names.items():
                self._budget.spend(1 + len(needed))
                for one in needed if name in value else ():
                    if one not in value:
                        yield Problem(path, "{} is a dependency of {}", one, name)

    def _dependent_schemas(self, schemas: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, Mapping):
            self._budget.spend(len(schemas))
            for name, one in schemas.items():
                if name in value:
                    yield from self._problems(one, value, path)

    def _properties(self, schemas: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, Mapping):
            self._budget.spend(len(schemas))
            for name, one in schemas.items():
                if name in value:
                    yield from self._problems(one, value[name], (path, name))

    def _pattern_properties(self, schemas: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, Mapping):
            for pattern, one in schemas.items():
                for name in value:
                    if self._found(pattern, name):
                        yield from self._problems(one, value[name], (path, name))

    def _additional_properties(self, rest: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if not isinstance(value, Mapping):
            return
        known = self._named(schema, value)
        extra = [name for name in value if name not in known]
        if rest is False and extra:
            yield Problem(path, f"Additional properties are not allowed ({_unexpected(extra)})", *extra[:SHOWN])
        else:
            for name in extra:
                yield from self._problems(rest, value[name], (path, name))

    def _named(self, schema: Any, value: Mapping[str, Any]) -> set[str]:
        """The names in the value that `properties` or `patternProperties` of this schema have."""
        self._budget.spend(len(value))
        named = {name for name in value if name in schema.get("properties", {})}
        for pattern in schema.get("patternProperties", {}):
            named |= {name for name in value if name not in named and self._found(pattern, name)}
        return named

    def _property_names(self, of_names: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, Mapping):
            for name in value:
                yield from self._problems(of_names, name, (path, name))

    def _unevaluated_properties(self, rest: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if not isinstance(value, Mapping):
            return
        known = self._evaluated_names(schema, value, path, outermost=True)
        extra = [name for name in value if name not in known]
        if rest is False and extra:
            yield Problem(path, f"Unevaluated properties are not allowed ({_unexpected(extra)})", *extra[:SHOWN])
        else:
            for name in extra:
                yield from self._problems(rest, value[name], (path, name))

    def _evaluated_names(self, schema: Any, value: Any, path: Path, *, outermost: bool = False) -> set[str]:
        """The names that some keyword of the schema has something to say of, this one and those that it applies."""
        if isinstance(schema, bool):
            return set()
        if "additionalProperties" in schema or (not outermost and "unevaluatedProperties" in schema):
            return set(value)
        named = self._named(schema, value)
        for one in self._applied(schema, value, path):
            named |= self._evaluated_names(one, value, path)
        return named

    # Lists

    def _items(self, of_items: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, list | tuple):
            first = len(schema.get("prefixItems", ()))
            if of_items is False and len(value) > first:
                yield Problem(path, "Expected at most {} items but found {}", first, len(value))
            else:
                for place in range(first, len(value)):
                    yield from self._problems(of_items, value[place], (path, place))

    def _prefix_items(self, schemas: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if isinstance(value, list | tuple):
            for place, (one, item) in enumerate(zip(schemas, value, strict=False)):
                yield from self._problems(one, item, (path, place))

    def _contains(self, wanted: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if not isinstance(value, list | tuple):
            return
        least, most = schema.get("minContains", 1), schema.get("maxContains")
        found = sum(self._fits(wanted, item, (path, place)) for place, item in enumerate(value))
        if most is not None and found > most:
            yield Problem(path, "Too many items match the given schema (expected at most {})", most)
        if found < least and not found:
            yield Problem(path, "{} does not contain items matching the given schema", value)
        elif found < least:
            text = "Too few items match the given schema (expected at least {} but only {} matched)"
            yield Problem(path, text, least, found)

    def _unique_items(self, wanted: bool, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if wanted and isinstance(value, list | tuple):
            seen: dict[str, int] = {}
            for place, item in enumerate(value):
                if (earlier := seen.setdefault(self._same(item), place)) != place:
                    text = "has non-unique elements: [{}] and [{}] are both {}"
                    yield Problem(path, text, earlier, place, item)
                    return

    def _unevaluated_items(self, rest: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        if not isinstance(value, list | tuple):
            return
        known = self._evaluated_places(schema, value, path, outermost=True)
        extra = [place for place in range(len(value)) if place not in known]
        if rest is False and extra:
            items = [value[place] for place in extra]
            yield Problem(path, f"Unevaluated items are not allowed ({_unexpected(items)})", *items[:SHOWN])
        else:
            for place in extra:
                yield from self._problems(rest, value[place], (path, place))

    def _evaluated_places(self, schema: Any, value: Any, path: Path, *, outermost: bool = False) -> set[int]:
        if isinstance(schema, bool):
            return set()
        self._budget.spend(len(value))
        if "items" in schema or (not outermost and "unevaluatedItems" in schema):
            return set(range(len(value)))
        places = set(range(min(len(value), len(schema.get("prefixItems", ())))))
        if "contains" in schema:
            wanted = schema["contains"]
            places |= {place for place, item in enumerate(value) if self._fits(wanted, item, (path, place))}
        for one in self._applied(schema, value, path):
            places |= self._evaluated_places(one, value, path)
        return places

    def _applied(self, schema: Any, value: Any, path: Path) -> Iterator[Any]:
        """The schemas that this one applies to the same value, and that fit it."""
        self._budget.spend(1)
        if "$ref" in schema:
            yield self._schema.targets[schema["$ref"]]
        if "if" in schema:
            if self._fits(schema["if"], value, path):
                yield schema["if"]
                yield schema.get("then", True)
            else:
                yield schema.get("else", True)
        if isinstance(value, Mapping):
            yield from (one for name, one in schema.get("dependentSchemas", {}).items() if name in value)
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from (one for one in schema.get(keyword, ()) if self._fits(one, value, path))


def _fits_none(value: Any, path: Path) -> Problem:
    return Problem(path, "{} is not valid under any of the given schemas", value)


def _unexpected(values: list[Any]) -> str:
    shown = ", ".join(["{}"] * min(len(values), SHOWN)) + (", …" if len(values) > SHOWN else "")
    return f"{shown} {'was' if len(values) == 1 else 'were'} unexpected"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list | tuple),
    "object": lambda value: isinstance(value, Mapping),
}


def _bound(of: Callable[[Any], Any], fine: Callable[[Any, Any], bool], said: Callable[[Any], str]) -> Any:
    """A keyword that compares a number of the value, or its size, with a bound."""

    def apply(evaluation: Evaluation, bound: Any, value: Any, path: Path, schema: Any) -> Iterator[Problem]:
        number = of(value)
        if number is not None and not fine(number, bound):
            yield Problem(path, said(bound), value, bound)

    return apply


def _number(value: Any) -> Any:
    return value if _is_number(value) else None


def _size(*kinds: Any) -> Callable[[Any], Any]:
    return lambda value: len(value) if isinstance(value, kinds) else None


def _at_least(of: Callable[[Any], Any], few: str) -> Any:
    return _bound(of, operator.ge, lambda bound: "{} should be non-empty" if bound == 1 else f"{{}} {few}")


def _at_most(of: Callable[[Any], Any], many: str) -> Any:
    return _bound(of, operator.le, lambda bound: "{} is expected to be empty" if bound == 0 else f"{{}} {many}")


def _limit(fine: Callable[[Any, Any], bool], said: str) -> Any:
    return _bound(_number, fine, lambda bound: f"{{}} is {said} of {{}}")


_TEXT, _LIST, _OBJECT = _size(str), _size(list, tuple), _size(dict, Mapping)
_KEYWORDS: dict[str, Callable[..., Iterator[Problem]]] = {
    "$ref": Evaluation._ref,
    "additionalProperties": Evaluation._additional_properties,
    "allOf": Evaluation._all_of,
    "anyOf": Evaluation._any_of,
    "const": Evaluation._const,
    "contains": Evaluation._contains,
    "dependentRequired": Evaluation._dependent_required,
    "dependentSchemas": Evaluation._dependent_schemas,
    "enum": Evaluation._enum,
    "exclusiveMaximum": _limit(operator.lt, "greater than or equal to the maximum"),
    "exclusiveMinimum": _limit(operator.gt, "less than or equal to the minimum"),
    "format": Evaluation._format,
    "if": Evaluation._if,
    "items": Evaluation._items,
    "maximum": _limit(operator.le, "greater than the maximum"),
    "maxItems": _at_most(_LIST, "is too long"),
    "maxLength": _at_most(_TEXT, "is too long"),
    "maxProperties": _at_most(_OBJECT, "has too many properties"),
    "minimum": _limit(operator.ge, "less than the minimum"),
    "minItems": _at_least(_LIST, "is too short"),
    "minLength": _at_least(_TEXT, "is too short"),
    "minProperties": _at_least(_OBJECT, "does not have enough properties"),
    "multipleOf": Evaluation._multiple_of,
    "not": Evaluation._not,
    "oneOf": Evaluation._one_of,
    "pattern": Evaluation._pattern,
    "patternProperties": Evaluation._pattern_properties,
    "prefixItems": Evaluation._prefix_items,
    "properties": Evaluation._properties,
    "propertyNames": Evaluation._property_names,
    "required": Evaluation._required,
    "type": Evaluation._type,
    "unevaluatedItems": Evaluation._unevaluated_items,
    "unevaluatedProperties": Evaluation._unevaluated_properties,
    "uniqueItems": Evaluation._unique_items,
}
_OF_WHAT_IS_THERE = {
    *("required", "dependentRequired", "dependentSchemas", "minProperties"),
    *("not", "if", "unevaluatedProperties"),
}
"""What these say of an object may change when a property is added."""
