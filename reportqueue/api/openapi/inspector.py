"""How drf-spectacular reads the API: an `Operation` for each call, and the serializers as they are.

Import it where drf-spectacular is installed: it registers itself, also for the schema of the project around the app.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import uritemplate
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent, append_meta
from drf_spectacular.settings import spectacular_settings
from rest_framework import serializers

from reportqueue import bounds
from reportqueue.api import problems
from reportqueue.api.openapi import alerts, answers, bulk, catalogue, outbox, refusals, rows, runs, schedules, sensors
from reportqueue.api.openapi.names import ENUMS, FIELDS, NAMES, OBJECTS
from reportqueue.api.openapi.operations import Answer, ListOf, Operation, Operations, Shape
from reportqueue.api.views.batch import Rows
from reportqueue.api.views.schema import SchemaPage

OPERATIONS: Operations = {
    **rows.OPERATIONS,
    **runs.OPERATIONS,
    **bulk.OPERATIONS,
    **catalogue.OPERATIONS,
    **outbox.OPERATIONS,
    **alerts.OPERATIONS,
    **schedules.OPERATIONS,
    **sensors.OPERATIONS,
}
"""Every call, by its view and its method."""
PATH_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "id": {"type": "integer", "format": "int64", "minimum": 0, "maximum": bounds.MAX_ID},
    "source": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"},
}
PREFIX = "ReportQueue"
"""Of the names in the schema of another project, which may have a `Report` of its own."""


class OwnRegistry(ComponentRegistry):
    """The components of the app's own document: their names need no prefix."""


class Described(AutoSchema):
    """The description of one call, from its `Operation`."""

    _asked = False
    """Whether the field that is described is of a request."""

    def is_excluded(self) -> bool:
        """A page for people is no part of the API."""
        return isinstance(self.view, SchemaPage)

    @property
    def operation(self) -> Operation:
        """That of the view's class, or of the class which stands for it."""
        view = next(cls for cls in type(self.view).__mro__ if cls in OPERATIONS)
        return OPERATIONS[view][self.method]

    def get_operation_id(self) -> str:
        """The operation's name."""
        own = isinstance(self.registry, OwnRegistry)
        return self.operation.name if own else f"{PREFIX.lower()}_{self.operation.name}"

    def get_summary(self) -> str:
        """The operation's."""
        return self.operation.summary

    def get_tags(self) -> list[str]:
        """The operation's."""
        return [self.operation.tag]

    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        """The operation's, with the permission that the view asks for."""
        view: Any = self.view
        needed = view.scopes.get(self.method, ())
        names = [needed] if isinstance(needed, str) else list(needed)
        text = f"Needs {' and '.join(f'`{name}`' for name in names)}." if names else ""
        return "\n\n".join(filter(None, [self.operation.text, text]))

    def get_examples(self) -> list[Any]:
        """None that drf-spectacular should place: the bodies have theirs."""
        return []

    def get_auth(self) -> list[dict[str, Any]]:
        """The ways to say who calls; none for a view that asks for no credentials."""
        return super().get_auth() or [{}]

    def _get_parameters(self) -> list[dict[str, Any]]:
        names = uritemplate.variables(self.path)
        of_prefix = self._resolve_path_parameters([name for name in names if name not in PATH_PARAMETERS])
        of_path = [
            {"in": "path", "name": name, "schema": dict(PATH_PARAMETERS[name]), "required": True}
            for name in names
            if name in PATH_PARAMETERS
        ]
        others = [
            {
                "in": one.location,
                "name": one.name,
                "schema": dict(one.schema),
                "description": one.text,
                **({"required": True} if one.required else {}),
            }
            for one in self.operation.parameters
        ]
        return [*of_prefix, *of_path, *others]

    def _get_request_body(self, direction: Any = "request") -> dict[str, Any] | None:
        if self.method not in ("POST", "PATCH"):
            return None
        bodies = self.operation.bodies
        return {
            "content": {
                "application/json": {
                    "schema": self._one_of(bodies, direction) if bodies else {},
                    "examples": _examples(self.operation.examples),
                }
            },
            "required": not bodies or all(self._needs_body(shape) for shape in bodies),
        }

    def _needs_body(self, shape: Shape) -> bool:
        """Whether a request without a body is refused: some field must be there."""
        partial = self.method == "PATCH"
        return isinstance(shape, ListOf) or any(field.required and not partial for field in shape().fields.values())

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        found = {str(code): self._answer(answer, direction) for code, answer in self.operation.answers.items()}
        return found | {str(code): self._refusal(code, kinds) for code, kinds in self._refusals().items()}

    def _answer(self, answer: Answer, direction: Any) -> dict[str, Any]:
        described: dict[str, Any] = {"description": answer.text}
        if answer.headers:
            described["headers"] = {one.name: _header(one.text) | {"example": one.example} for one in answer.headers}
        if answer.shapes:
            content = {
                "schema": self._one_of(answer.shapes, direction),
                "examples": _examples({"an answer": answer.example}),
            }
            described["content"] = {"application/json": content}
        return described

    def _refusals(self) -> dict[int, list[str]]:
        kinds = [*refusals.ALWAYS, *self.operation.refusals]
        if self.view.permission_classes:
            kinds += refusals.OF_CALLERS
        kinds += refusals.OF_BODIES if self.method in ("POST", "PATCH") else ["validation"]
        if self.operation.bodies:
            kinds.append("unsupported-media-type")
        if "{id}" in self.path:
            kinds.append("not-found")
        return refusals.by_code(kinds)

    def _refusal(self, code: int, kinds: list[str]) -> dict[str, Any]:
        """A reference to the component of these problems."""
        ref = self.resolve_serializer(answers.Problem, "response").ref
        narrowed = {"type": "object", "properties": {"type": {"enum": kinds}, "status": {"enum": [code]}}}
        described: dict[str, Any] = {
            "description": " ".join(f"`{kind}`: {refusals.WHEN[kind]}" for kind in kinds),
            "content": {
                problems.CONTENT_TYPE: {
                    "schema": {"allOf": [ref, narrowed]},
                    "examples": _examples({kind: refusals.example(kind) for kind in kinds}),
                }
            },
        }
        if code == 401 and "not-authenticated" in kinds:
            described["headers"] = {"WWW-Authenticate": _header("The scheme of the first method to authenticate.")}
        if code == 503:
            text = "Seconds to wait before the call is repeated."
            described["headers"] = {"Retry-After": _header(text) | {"example": "1"}}
        return self._component(refusals.name_of(kinds), ResolvedComponent.RESPONSE, described)

    def _component(self, name: str, kind: str, described: dict[str, Any]) -> dict[str, Any]:
        """A reference to a component, which is added if it is new."""
        component = ResolvedComponent(name=self._named(name), type=kind, schema=described, object=name)
        self.registry.register_on_missing(component)
        return dict(component.ref)

    def _named(self, name: str) -> str:
        return name if isinstance(self.registry, OwnRegistry) else f"{PREFIX}{name}"

    def _one_of(self, shapes: Iterable[Shape], direction: Any) -> dict[str, Any]:
        found = [self._form(shape, direction) for shape in shapes]
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _form(self, shape: Shape, direction: Any) -> dict[str, Any]:
        if isinstance(shape, ListOf):
            items = self._form(shape.shape, direction)
            return {"type": "array", "items": items, "minItems": 1, "maxItems": shape.most}
        partial = direction == "request" and self.method == "PATCH"
        return self.resolve_serializer(shape(partial=partial), direction).ref

    def get_serializer_name(self, serializer: serializers.Serializer[Any], direction: Any) -> str:
        """Without what only says that it is a serializer; those of equal names are told apart."""
        found = type(serializer)
        name = NAMES.get(found) or found.__name__.removeprefix("_").removesuffix("Serializer").removesuffix("Body")
        if direction == "request" and not spectacular_settings.COMPONENT_SPLIT_REQUEST:
            name = f"{name}Request"  # in this document, requests and answers are told apart whatever the project sets
        return self._named(name)

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)
        if direction == "request":
            schema["additionalProperties"] = False
            return schema
        always = isinstance(serializer, serializers.ModelSerializer)
        fields = serializer.fields.items()
        schema["required"] = sorted(name for name, field in fields if always or field.required or field.read_only)
        texts = FIELDS.get(type(serializer), {})
        for name, text in texts.items():
            schema["properties"][name] = append_meta(schema["properties"][name], {"description": text})
        if isinstance(serializer, answers.OF_EACH_ROW):
            ref = self.resolve_serializer(answers.Problem, "response").ref
            schema["properties"]["answer"] = {"anyOf": [schema["properties"]["answer"], ref]}
        return schema

    def _get_serializer_field_meta(self, field: Any, direction: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._get_serializer_field_meta(field, direction)
        found.pop("title", None)  # the name that the admin shows
        return found

    def _insert_field_validators(self, field: Any, schema: Any) -> None:
        # An answer's text may be what no request may send, such as an empty one.
        if self._asked or not isinstance(field, serializers.CharField):
            super()._insert_field_validators(field, schema)

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: Any = False) -> Any:
        self._asked = direction == "request"
        meta = self._get_serializer_field_meta(field, direction)
        if isinstance(field, serializers.ChoiceField):
            return append_meta(self._choice(field), meta)
        if isinstance(field, serializers.JSONField) and field.field_name in OBJECTS:
            return append_meta({"type": "object", "additionalProperties": {}}, meta)
        if isinstance(field, serializers.SerializerMethodField) and (shape := getattr(field, "shape", None)):
            return append_meta({"type": "array", "items": self.resolve_serializer(shape, direction).ref}, meta)
        schema = super()._map_serializer_field(field, direction, bypass_extensions)
        if isinstance(field, Rows):
            schema |= {"minItems": 1, "maxItems": bounds.MAX_BATCH_ROWS}
        return schema

    def _choice(self, field: serializers.ChoiceField) -> dict[str, Any]:
        values = list(field.choices)
        if (named := ENUMS.get(frozenset(values))) is None:
            return {"type": "string", "enum": [*([""] if field.allow_blank else []), *values]}
        return self._component(named, ResolvedComponent.SCHEMA, {"type": "string", "enum": values})


class ReportQueueViews(OpenApiViewExtension):
    """All views of the API."""

    target_class = "reportqueue.api.base.ApiView"
    match_subclasses = True

    def view_replacement(self) -> Any:
        """The same view, described by its `Operation`; a view that another project has made of ours stays as it is."""
        view = self.target
        if view not in OPERATIONS and view is not SchemaPage:
            return view
        return type(view.__name__, (view,), {"schema": Described()})


class ReportQueueTokens(OpenApiAuthenticationExtension):
    """The app's own tokens."""

    target_class = "reportqueue.api.authentication.ApiTokenAuthentication"
    name = ["reportqueueToken", "reportqueueBearer"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """One of the two."""
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """Two spellings of the same header."""
        text = "A token of the app, as `Token rq_...`."
        return [
            {"type": "apiKey", "in": "header", "name": "Authorization", "description": text},
            {"type": "http", "scheme": "bearer", "description": "The same token, as `Bearer rq_...`."},
        ]


def _header(text: str) -> dict[str, Any]:
    return {"schema": {"type": "string"}, "description": text, "required": True}


def _examples(bodies: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace(" ", "-"): {"summary": name, "value": body} for name, body in bodies.items()}
