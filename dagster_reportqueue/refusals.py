"""The refusals of the queue in memory, in the shape of the API's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_reportqueue import bounds
from dagster_reportqueue.client import MAX_BATCH_ROWS


class Refused(Exception):
    """An answer that is a problem document."""

    def __init__(self, code: int, kind: str, detail: str, status: str | None = None) -> None:
        """`status` is the row's, if that is the reason."""
        super().__init__(detail)
        self.code = code
        self.problem: dict[str, Any] = {"type": kind, "title": kind, "status": code, "detail": detail}
        if status is not None:
            self.problem["current_status"] = status


class Invalid(Refused):
    """Fields of a request are wrong."""

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__(400, "validation", detail_of(found))
        self.problem["errors"] = {name: [text] for name, text in found.items()}


def detail_of(found: Mapping[str, str]) -> str:
    """The text of a refusal from the problem of each field."""
    return " ".join(f"{name}: {text}" for name, text in found.items())


def check_body(body: Mapping[str, Any]) -> None:
    """Raises `Refused` for a body that the API refuses as a whole, before it looks at any row."""
    if text := bounds.depth_problem(body):
        raise Refused(400, "malformed", text)
    found = bounds.problems(body)
    rows = body.get("rows", [{}])
    if not 1 <= len(rows) <= MAX_BATCH_ROWS:
        many = f"At most {MAX_BATCH_ROWS} rows; this list has {len(rows):,}."
        found["rows"] = many if rows else "This list may not be empty."
    for place, row in enumerate(rows):
        found |= {f"rows[{place}].{name}": text for name, text in bounds.problems(row).items()}
    if found:
        raise Invalid(found)
