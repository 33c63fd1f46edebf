"""The catalog: each report with its modifiers and its params."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CatalogEntry:
    """One report, with what a person needs to know to schedule it."""

    report_id: int
    name: str
    modifiers: dict[int, str]
    """Modifier id to label: which of the report's variants to make."""
    params: dict[str, str]
    """Name to a one-line description: what is accepted, and what happens without it."""
