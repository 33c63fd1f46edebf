"""Long lists of rows, read from place to place: a place is a row's values of the fields that order the list.

Django's `iterator()` holds a cursor in the server. Behind a connection pool such as PgBouncer, the next statement goes
through another connection, which does not know that cursor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

CHUNK = 1_000
"""Rows in one query."""
M = TypeVar("M", bound=Model)
Row = TypeVar("Row")


def beyond(fields: Sequence[str], place: Sequence[Any]) -> Q:
    """The rows after a place. `fields` are those of `order_by`: the last is unique, none may be NULL."""
    found = Q()
    for name, value in zip(reversed(fields), reversed(place), strict=True):
        field = name.removeprefix("-")
        descending = name.startswith("-")
        further = Q((f"{field}__{'lt' if descending else 'gt'}", value))
        # The bound of the first field is a condition of its own: an index is read from there, and not from its start.
        found = Q((f"{field}__{'lte' if descending else 'gte'}", value)) & (further | found) if found else further
    return found


def merged(parts: Sequence[QuerySet[M, Row]], fields: Sequence[str], most: int) -> QuerySet[M, Row]:
    """The first rows, at most `most`, of disjoint parts of a list, in the order of the fields; one statement.

    Each part is read in that order and no further: an index in that order is enough, and nothing else is sorted.
    """
    known = [part for part in parts if not part.query.is_empty()] or parts[:1]  # Django cannot merge `none()`
    first, *others = [part.order_by(*fields)[:most] for part in known]
    return first.union(*others, all=True).order_by(*fields)[:most] if others else first


def places(parts: Sequence[QuerySet[M, Any]], fields: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The places of all rows of disjoint parts of a list, in the order of the fields, `CHUNK` in a query."""
    names = [name.removeprefix("-") for name in fields]
    left = list(parts)
    while True:
        found = list(merged([part.values_list(*names) for part in left], fields, CHUNK))
        yield from found
        if len(found) < CHUNK:
            return
        left = [part.filter(beyond(fields, found[-1])) for part in parts]


def in_chunks(rows: QuerySet[M, Row], *fields: str) -> Iterator[Row]:
    """All rows in the order of the fields, `CHUNK` in a query. Each row needs these fields as attributes."""
    left = rows.order_by(*fields)
    while True:
        found = list(left[:CHUNK])
        yield from found
        if len(found) < CHUNK:
            return
        place = [getattr(found[-1], name.removeprefix("-")) for name in fields]
        left = rows.filter(beyond(fields, place)).order_by(*fields)
