"""The reference of the REST API, from its OpenAPI document: each call, and each shape of a request or an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from project.environment import BASE_DIR
from tools.docs.markdown import code, plain, table

METHODS = ("get", "post", "put", "patch", "delete")
LARGEST = 2**63 - 1
"""A maximum that is that of the database's column, and says nothing."""
SHAPES = "rest-shapes.md"
"""The page of the shapes, beside that of the calls."""


def calls_part() -> str:
    """A section for each tag, with its calls."""
    document = _document()
    return "\n".join(line for tag in document["tags"] for line in _tag(document, tag))


def schemas_part() -> str:
    """A section for each shape."""
    return "\n".join(
        line for name, schema in sorted(_document()["components"]["schemas"].items()) for line in _shape(name, schema)
    )


@cache
def _document() -> dict[str, Any]:
    path = BASE_DIR / "reportqueue" / "api" / "openapi" / "openapi.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _tag(document: dict[str, Any], tag: dict[str, str]) -> Iterator[str]:
    yield f"## {tag['name']}\n\n{tag['description']}\n"
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods and tag["name"] in methods[method]["tags"]:
                yield from _call(document, f"{method.upper()} {path}", methods[method])


def _call(document: dict[str, Any], call: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {code(call)}\n\n**{operation['summary']}.** {operation.get('description', '')}\n"
    parameters = [
        (code(one["name"]), one["in"], _kind(one["schema"]), _sentence(one, one["schema"]))
        for one in operation.get("parameters", [])
    ]
    yield table(("parameter", "in", "type", "what it is"), parameters)
    if body := operation.get("requestBody"):
        kinds = sorted({_kind(content["schema"]) for content in body["content"].values()})
        yield f"Body: {' or '.join(kinds)}{'' if body.get('required') else ', optional'}\n"
    answers = [_answer(document, status, answer) for status, answer in operation["responses"].items()]
    yield table(("status", "body", "when"), answers)


def _answer(document: dict[str, Any], status: str, answer: dict[str, Any]) -> tuple[str, str, str]:
    if reference := answer.get("$ref"):
        answer = document["components"]["responses"][reference.rpartition("/")[2]]
    kinds = sorted({_kind(content["schema"]) for content in answer.get("content", {}).values()})
    return status, " or ".join(kinds), _line(answer["description"])


def _shape(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"## {name}\n"
    if text := schema.get("description"):
        yield f"{text}\n"
    if "properties" not in schema:
        yield f"{_kind(schema)}{_values(schema)}\n"
        return
    required = schema.get("required", [])
    rows = [
        (code(field), _kind(one), "yes" if field in required else "", _sentence(one, one))
        for field, one in schema["properties"].items()
    ]
    yield table(("field", "type", "required", "what it is"), rows)


def _kind(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}]({SHAPES}#{name.lower()})"
    for several in ("oneOf", "anyOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[several]))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(_kind({**schema, "type": one}) for one in kind)
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "string":
        return {"date-time": "instant", "uuid": "UUID", "uri": "address"}.get(schema.get("format", ""), kind)
    return str(kind)


def _sentence(described: dict[str, Any], schema: dict[str, Any]) -> str:
    return " ".join(filter(None, [_line(described.get("description", "")), _values(schema), _bounds(schema)]))


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _values(schema: dict[str, Any]) -> str:
    values = schema.get("enum") or schema.get("items", {}).get("enum")
    if "const" in schema:
        values = [schema["const"]]
    return f" One of {', '.join(code(json.dumps(one).strip(chr(34))) for one in values)}." if values else ""


def _bounds(schema: dict[str, Any]) -> str:
    found = []
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        found.append(f"{low:,} to {high:,}" if high < LARGEST else f"{low:,} or more")
    if "maxLength" in schema:
        found.append(f"at most {schema['maxLength']:,} characters")
    if "maxItems" in schema:
        found.append(f"at most {schema['maxItems']:,} entries")
    if "default" in schema:
        found.append(f"default {code(json.dumps(schema['default']))}")
    return plain("; ".join(found)).capitalize() + "." if found else ""
