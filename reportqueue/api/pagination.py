"""Pages of a list, by cursor: a cursor is the place of a row, so pages stay right while rows come and go."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from reportqueue import bounds, keyset

PAGE = 100
PARAMETERS = ["cursor", "limit"]

M = TypeVar("M", bound=Model)
Place = tuple[Any, ...]
"""A row's values of the fields that order the list."""


@dataclass(frozen=True)
class Order:
    """A list's order: its fields, as for `order_by`, the last of them unique."""

    fields: tuple[str, ...]
    read: Callable[..., Place]
    """Turns the values of a cursor into a valid place. Raises `TypeError`, `ValueError` or `OverflowError`."""
    large: tuple[str, ...]
    """The fields whose values may be large."""


@dataclass(frozen=True)
class Page(Generic[M]):
    """The rows of a page, and the URLs of the pages before and after it; None at an end of the list."""

    rows: list[M]
    next: str | None
    previous: str | None

    def answer(self, name: str, items: Any) -> dict[str, Any]:
        """The answer to a request for the list, with the rows as `items` under their name."""
        return {name: items, "next": self.next, "previous": self.previous}


def page(parts: Sequence[QuerySet[M]], request: Request, order: Order) -> Page[M]:
    """The page that the request's `cursor` and `limit` name, of a list in disjoint parts.

    Raises `ValidationError` naming the parameter.

    Rows that leave the list meanwhile make no other row appear twice or be left out. Nothing is counted. A page ends
    before its `limit` once its rows have `MAX_ANSWER_BYTES`.
    """
    limit = whole_number(request, "limit", default=PAGE, most=bounds.MAX_PAGE)
    cursor = request.query_params.get("cursor")
    backwards, place = _read_cursor(cursor, order) if cursor else (False, None)
    found, more = _bounded(parts, order, place, limit, backwards=backwards)
    if backwards:
        found.reverse()
    has_next, has_previous = (True, more) if backwards else (more, place is not None)
    return Page(
        found,
        _link(request, order, found[-1], backwards=False) if found and has_next else None,
        _link(request, order, found[0], backwards=True) if found and has_previous else None,
    )


def _bounded(
    parts: Sequence[QuerySet[M]], order: Order, after: Place | None, limit: int, *, backwards: bool
) -> tuple[list[M], bool]:
    """The rows beyond a place, at most `limit` and about `MAX_ANSWER_BYTES`; and whether there are more."""
    fields = [_reversed(name) for name in order.fields] if backwards else order.fields
    found: dict[Any, M] = {}  # a row that moves down the list between two statements is in the page once
    size = 0
    while True:
        wanted = min(limit - len(found), bounds.ROWS_AT_ONCE) + 1
        beyond = parts if after is None else [part.filter(keyset.beyond(fields, after)) for part in parts]
        some = list(keyset.merged(beyond, fields, wanted))
        for row in some:
            if len(found) == limit or size >= bounds.MAX_ANSWER_BYTES:
                return list(found.values()), True
            found.setdefault(row.pk, row)
            size += bounds.json_size(*(getattr(row, name) for name in order.large))
        if len(some) < wanted:
            return list(found.values()), False
        after = tuple(getattr(some[-1], name.removeprefix("-")) for name in order.fields)


def whole_number(request: Request, name: str, *, default: int, most: int) -> int:
    """The query's parameter, from 1 to `most`. Raises `ValidationError` naming it."""
    text = request.query_params.get(name, str(default))
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most:
        return int(text)
    raise ValidationError({name: [f"Must be a whole number from 1 to {most:,}."]})


def _reversed(name: str) -> str:
    return name[1:] if name.startswith("-") else f"-{name}"


def _link(request: Request, order: Order, row: Model, *, backwards: bool) -> str:
    place = [getattr(row, name.removeprefix("-")) for name in order.fields]
    text = json.dumps([backwards, *place], default=datetime.isoformat)
    cursor = base64.urlsafe_b64encode(text.encode()).decode()
    query = [(name, value) for name, values in request.query_params.lists() for value in values if name != "cursor"]
    return request.build_absolute_uri(f"{request.path}?{urlencode([*query, ('cursor', cursor)])}")


def _read_cursor(cursor: str, order: Order) -> tuple[bool, Place]:
    try:
        backwards, *place = json.loads(base64.urlsafe_b64decode(cursor))
        return bool(backwards), order.read(*place)
    except (ValueError, TypeError, RecursionError, OverflowError, binascii.Error):
        raise ValidationError({"cursor": ["Not a cursor of this list; take it from `next` or `previous`."]}) from None
