"""Checks the arguments of the builders, when they are called.

Each error names the argument, what is expected, and what was given: a `TypeError` for a value of another type, a
`ValueError` for one that is out of bounds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from dagster import JobDefinition, PartitionsDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dagster_reportqueue.bounds import MAX_NAME_LENGTH

JOBS = (JobDefinition, UnresolvedAssetJobDefinition)
A_JOB = "a job of Dagster"
MAX_BATCH = 100
"""Run requests in a tick. A tick's work grows with their square, and a tick may take at most 60 s."""
MAX_INTERVAL_SECONDS = 86_400
"""Of the time between two ticks of a sensor."""
MAX_LANES = 8
"""At most this many claims may wait in one process of the web app (`MAX_WAITERS`)."""
MAX_SHOWN = 100
"""Characters of a value that an error shows."""


def shown(value: object) -> str:
    """The value for an error's text."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def refusal(argument: str, expected: str, value: object) -> str:
    """The text of an error."""
    return f"{argument} must be {expected}; it is {shown(value)}."


def check_type(argument: str, value: object, types: type | tuple[type, ...], expected: str) -> None:
    """Raises `TypeError` for a value of no such type."""
    if not isinstance(value, types):
        raise TypeError(refusal(argument, expected, value))


def check_number(argument: str, value: object, low: int, high: int) -> None:
    """Raises `TypeError` for what is no whole number, `ValueError` for one that is not from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(refusal(argument, f"a whole number from {low} to {high:,}", value))
    if not low <= value <= high:
        raise ValueError(refusal(argument, f"from {low} to {high:,}", value))


def check_function(argument: str, value: object, expected: str, *, optional: bool = False) -> None:
    """Raises `TypeError` for what cannot be called; None is fine for an optional argument."""
    if not callable(value) and not (optional and value is None):
        raise TypeError(refusal(argument, f"{expected}, or None" if optional else expected, value))


def check_work(work: object) -> None:
    """Raises `TypeError` unless it may be the code of a report."""
    check_function("work", work, "the code of a report, a function that takes a ReportRun")


def check_name(argument: str, value: object) -> None:
    """Raises `TypeError` or `ValueError` for what cannot be a consumer's name."""
    check_type(argument, value, str, "a text")
    if isinstance(value, str) and not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise ValueError(refusal(argument, f"a text of 1 to {MAX_NAME_LENGTH} characters", value))


def check_list(argument: str, values: object, types: type | tuple[type, ...], expected: str) -> None:
    """Raises `TypeError` unless it is a list, or another collection, of values of these types."""
    if not isinstance(values, Collection) or isinstance(values, str | bytes | Mapping):
        raise TypeError(refusal(argument, f"a list, each of it {expected}", values))
    for place, value in enumerate(values):
        check_type(f"{argument}[{place}]", value, types, expected)


def check_partitions(value: Any) -> None:
    """Raises `TypeError` for what is neither None nor a definition of partitions."""
    check_type("partitions_def", value, (PartitionsDefinition, type(None)), "a PartitionsDefinition, or None")
