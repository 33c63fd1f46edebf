"""The API's description, as something that answers are compared with."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

from django.http import HttpResponse
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from reportqueue.api.openapi import document

PREFIX = document.PREFIX
METHODS = ("get", "post", "put", "patch", "delete")


@cache
def described() -> dict[str, Any]:
    """The document as it is checked in."""
    return document.served(PREFIX)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Each path, method and operation."""
    return [
        (path, method, found[method])
        for path, found in described()["paths"].items()
        for method in METHODS
        if method in found
    ]


def resolved(found: dict[str, Any]) -> dict[str, Any]:
    """What a reference names."""
    while "$ref" in found:
        place: Any = described()
        for part in found["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        found = place
    return found


@cache
def strict() -> dict[str, Any]:
    """The document, in which objects of answers have no fields but the ones that it names."""
    found = copy.deepcopy(described())
    for name, schema in found["components"]["schemas"].items():
        if "properties" in schema and name != "Document":
            schema["additionalProperties"] = False
    return found


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Checks values by a schema of the document."""
    resource = Resource(contents=strict(), specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:api", resource)

    def absolute(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                key: f"urn:api{value}" if key == "$ref" and value.startswith("#") else absolute(value)
                for key, value in part.items()
            }
        return [absolute(one) for one in part] if isinstance(part, list) else part

    return Draft202012Validator(absolute(schema), registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    """What of the value does not fit the schema."""
    return [f"{one.json_path}: {one.message}"[:500] for one in validator(schema).iter_errors(value)]


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    # Names before numbers: `schedules/agenda/` is no schedule.
    paths = sorted(described()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in paths]


@cache
def _validator_of(path: str, method: str, code: str) -> Draft202012Validator | None:
    answer = resolved(described()["paths"][path][method]["responses"][code])
    (content,) = answer.get("content", {"": {}}).values()
    return validator(content["schema"]) if content else None


def check(response: HttpResponse) -> None:
    """Fail if the document does not say that the call may be answered like this."""
    request: Any = response.wsgi_request  # type: ignore[attr-defined]
    below = request.path.removeprefix(PREFIX)
    path = next((path for pattern, path in _patterns() if pattern.fullmatch(below)), None)
    method = request.method.lower().replace("head", "get")
    if path is None or method not in described()["paths"][path]:
        return  # 404 or 405, of what the API does not have
    found, code = described()["paths"][path][method], str(response.status_code)
    called = f"{request.method} {path}"
    assert code in found["responses"], f"{called} has no {code} in the description: {response.content[:300]!r}"
    answer = resolved(found["responses"][code])
    kinds = list(answer.get("content", {})) if request.method != "HEAD" else []
    assert kinds == ([response["Content-Type"]] if response.content else []), f"{called} {code}: {kinds}"
    for name, header in answer.get("headers", {}).items():
        assert name in response.headers or not header.get("required"), f"{called} {code} lacks {name}"
    checks = _validator_of(path, method, code)
    if checks is not None and request.method != "HEAD":
        wrong = [f"{one.json_path}: {one.message}"[:500] for one in checks.iter_errors(response.json())]  # type: ignore[attr-defined]
        assert wrong == [], f"{called} {code} is not as described: {wrong[:5]}"
