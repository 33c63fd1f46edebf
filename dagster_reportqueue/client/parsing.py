"""Reads the API's answers and writes the bodies of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from dagster_reportqueue.client.transport import Answer, ApiUnreachable, Transport

PAGE = 1_000
"""Entries in one page of a list."""
T = TypeVar("T")


def given(body: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the fields that are None: the API then uses its defaults."""
    return {name: value for name, value in body.items() if value is not None}


def as_json(body: Mapping[str, Any]) -> dict[str, Any]:
    """Instants as texts. Raises `ValueError` for one without a time zone: the API would refuse it."""
    return {name: instant_text(value) if isinstance(value, datetime) else value for name, value in body.items()}


def instant_text(instant: datetime) -> str:
    """ISO 8601 with its offset. Raises `ValueError` for an instant without a time zone."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone: use an aware datetime.")
    return instant.isoformat()


def storable(text: str) -> str:
    """Replace what the queue refuses in a text: NUL characters and lone surrogates."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def boolean(value: object) -> bool:
    """The value. Raises `TypeError` for one that is no boolean."""
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def parsed(what: str, parse: Callable[[], T]) -> T:
    """The result of `parse`. Raises `ApiUnreachable` for an answer that is not what it should be."""
    try:
        return parse()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise unexpected(what) from None


def unexpected(what: str) -> ApiUnreachable:
    """The error for an answer that is not what it should be."""
    return ApiUnreachable(f"The queue's API answered something that is not {what}; do the versions match?")


def pages(
    client: Transport,
    path: str,
    chosen: Mapping[str, Any],
    read: Callable[[Answer], list[T]],
    *,
    limit: int | None = None,
) -> Iterator[T]:
    """All entries of a list, page by page; `chosen` are its filters, `read` reads the entries of a page.

    A page has `limit` entries, by default `PAGE`.
    """
    query = urlencode({**chosen, "limit": limit or PAGE}, doseq=True)
    while query:
        answer = client.answer("GET", f"{path}?{query}")

        def page(answer: Answer = answer) -> tuple[list[T], str]:
            # Only its query: behind a proxy, the web app may know another address than the client.
            return read(answer), urlsplit(answer.content["next"] or "").query

        entries, query = parsed("a list", page)
        yield from entries


def fields_of(shape: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, from JSON with the same names. Raises KeyError, TypeError or ValueError."""
    return {one.name: _READ[str(one.type)](data[one.name]) for one in fields(shape) if str(one.type) in _READ}


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def _instant(value: Any) -> datetime:
    return datetime.fromisoformat(value)


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "bool": boolean,
    "int": _whole,
    "int | None": _or_none(_whole),
    "str": _text,
    "str | None": _or_none(_text),
    "datetime": _instant,
    "datetime | None": _or_none(_instant),
    "Mapping[str, Any]": _object,
    "Mapping[str, Any] | None": _or_none(_object),
}
"""How a field is read, by its annotation."""
