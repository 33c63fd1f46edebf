"""What the description says of one call, beside what its view, its serializers and its address say already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rest_framework import serializers

from reportqueue import bounds
from reportqueue.api.base import ApiView


@dataclass(frozen=True)
class ListOf:
    """A list of objects, as a request or an answer has it."""

    shape: type[serializers.Serializer[Any]]
    most: int


Shape = type[serializers.Serializer[Any]] | ListOf
"""The form of a body: a serializer's, or a list of it."""


@dataclass(frozen=True)
class Parameter:
    """A query parameter, or a header of a request."""

    name: str
    schema: Mapping[str, Any]
    text: str
    location: str = "query"
    required: bool = False


@dataclass(frozen=True)
class Header:
    """A header of an answer."""

    name: str
    text: str
    example: str


@dataclass(frozen=True)
class Answer:
    """An answer that is no refusal: `shapes` are the forms that it may have; without one it has no body."""

    text: str
    shapes: tuple[Shape, ...] = ()
    example: Any = None
    headers: tuple[Header, ...] = ()


def page_of(name: str, example: Any, text: str, shape: Shape, headers: tuple[Header, ...] = ()) -> Answer:
    """A page of a list, whose entries are under this name; `example` is one of them."""
    return Answer(text, (shape,), {name: [example], "next": None, "previous": None}, headers)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call."""

    name: str
    """Its id, which stays: generated clients name their methods by it."""
    tag: str
    summary: str
    text: str = ""
    bodies: tuple[Shape, ...] = ()
    """The forms that the request's body may have."""
    examples: Mapping[str, Any] = field(default_factory=dict)
    """Bodies of requests, by what they show."""
    parameters: tuple[Parameter, ...] = ()
    answers: Mapping[int, Answer]
    refusals: tuple[str, ...] = ()
    """Types of problems, beside those that any call like it may have."""


Operations = Mapping[type[ApiView], Mapping[str, Operation]]
"""Calls, by the view and the method."""
ETAG = Header("ETag", "The version. Send it as `If-Match` or `If-None-Match`.", '"3"')
TIME = Header(
    "Reportqueue-Time", "The database's time just before the answer was read, in UTC.", "2026-11-23T08:00:00.123456Z"
)
DELETED = Answer("It is deleted.")
NOT_MODIFIED = Answer("Nothing has changed since the version in `If-None-Match`.", headers=(ETAG,))
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    {"type": "string"},
    "The `ETag` of an earlier answer: the answer is 304 if nothing has changed.",
    location="header",
)
IF_MATCH = Parameter(
    "If-Match",
    {"type": "string"},
    "The `ETag` of the version that the call is about. If it has changed, the answer is 412 and nothing is done.",
    location="header",
)
CONDITIONAL = "precondition-failed"
LIMIT = Parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": bounds.MAX_PAGE, "default": 100}, "Entries in a page."
)
CURSOR = Parameter(
    "cursor", {"type": "string"}, "The place where the page begins. Take it from `next` or `previous` of another page."
)
PAGES = (LIMIT, CURSOR)
