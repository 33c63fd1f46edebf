"""JSON Schema of a report's parameters: whether a schema is one, and whether parameters fit it.

Dialect: draft 2020-12. A schema refers to itself alone (`#/$defs/...`): nothing is ever fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from reportqueue import bounds

MAX_PROBLEMS = 10
"""Problems that one message names."""
MAX_TEXT = 300
"""Characters of a problem: the library quotes the value, which may be large."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
CIRCLE = "The schema refers to itself in a circle that no parameters end."
_REFERENCES = ("$ref", "$dynamicRef")


def validate(schema: Any) -> None:
    """Refuse what is no schema of an object, naming the place. The empty object fits all parameters."""
    if not isinstance(schema, Mapping):
        raise ValidationError("Must be a JSON object: a schema.", code="not-an-object")
    bounds.validate_json_object(schema)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValidationError(_problem(_place("", error.absolute_path), error.message), code="no-schema") from None
    kind = schema.get("type", "object")
    if kind != "object":
        raise ValidationError(_problem("type", f"must be 'object', since parameters are one; it is {kind!r}"))
    if (dialect := schema.get("$schema", DIALECT)) != DIALECT:
        raise ValidationError(_problem("$schema", f"must be {DIALECT!r} or left out; it is {dialect!r}"))
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for place, reference in _references(schema, ""):
        if not isinstance(reference, str) or not reference.startswith("#"):
            text = f"refers to {reference!r}; a schema may refer to its own parts alone, such as '#/$defs/name'"
            raise ValidationError(_problem(place, text), code="reference")
        try:
            resolver.lookup(reference)  # the check of the schema does not follow it
        except Unresolvable:
            raise ValidationError(_problem(place, f"{reference!r} leads nowhere"), code="reference") from None
    if problems(schema, {}) == [CIRCLE]:
        raise ValidationError(CIRCLE, code="reference")


def problems(schema: Mapping[str, Any] | None, params: Any) -> list[str]:
    """What of the parameters does not fit the schema: each with its path and what was expected; at most ten."""
    if not schema:
        return []
    found = islice(_validator(schema).iter_errors(params), MAX_PROBLEMS)
    try:
        return [_problem(_place("params", one.absolute_path), one.message) for one in _most_telling(found)]
    except RecursionError:
        return [CIRCLE]


def _most_telling(errors: Iterator[Any]) -> Iterator[Any]:
    """Of an error that only says that no alternative fits, the alternative that fits best."""
    for error in errors:
        yield best_match([error]) if error.context else error


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    return _compiled(json.dumps(schema, sort_keys=True))


@lru_cache(maxsize=256)
def _compiled(text: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(text), format_checker=Draft202012Validator.FORMAT_CHECKER)


def _references(part: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Each reference of a schema with its place."""
    if isinstance(part, Mapping):
        for name, inner in part.items():
            here = f"{place}.{name}".strip(".")
            if name in _REFERENCES and not isinstance(inner, Mapping):
                yield here, inner
            else:
                yield from _references(inner, here)
    elif isinstance(part, list):
        for number, inner in enumerate(part):
            yield from _references(inner, f"{place}[{number}]")


def _place(root: str, path: Sequence[str | int]) -> str:
    place = root
    for step in path:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    return place.strip(".")[:MAX_TEXT]


def _problem(place: str, message: str) -> str:
    text = message if len(message) <= MAX_TEXT else f"{message[: MAX_TEXT - 1]}…"
    return f"{place}: {text}." if place else f"{text}."
