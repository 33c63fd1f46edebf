"""Checks the arguments of the builders, when they are called.

Each error names the argument, what is expected, and what was given: a `TypeError` for a value of another type, a
`ValueError` for one that is out of bounds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import Any

from dagster import AssetsDefinition, GraphDefinition, JobDefinition, OpDefinition, PartitionsDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from dagster_reportqueue.bounds import MAX_NAME_LENGTH, MAX_ROUTES, ROUTE

JOBS = (JobDefinition, UnresolvedAssetJobDefinition)
A_JOB = "a job of Dagster"
NO_FUNCTIONS = (OpDefinition, GraphDefinition, AssetsDefinition, *JOBS)
"""Definitions of Dagster. Some can be called, and none is a function of yours."""
LIMIT = 25
"""Run requests in a tick, unless the sensor's `limit` says otherwise."""
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
    expected = "the code of a report, a function that takes a ReportRun"
    if isinstance(work, NO_FUNCTIONS):
        raise TypeError(refusal("work", expected, work))
    check_function("work", work, expected)
    for one in (work, getattr(work, "__call__", None), getattr(work, "func", None)):  # noqa: B004  # the function of it
        # Dagster would await nothing, and iterate over nothing: the report's code would never run.
        if any(of_a_kind(one) for of_a_kind in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
            raise TypeError(refusal("work", f"{expected}; neither an async function nor a generator", work))
    try:
        parameters = signature(work)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # of something that does not tell
        return
    try:
        parameters.bind(None)
    except TypeError as error:
        raise TypeError(f"{refusal('work', expected, work)[:-1]}, and cannot be called with it: {error}.") from None


def check_op(argument: str, job: object, op: str, remedy: str) -> None:
    """Raises `ValueError` for a job that has no op of this name. What an asset job has is known later."""
    if isinstance(job, JobDefinition) and not job.graph.has_node_named(op):
        raise ValueError(f"{argument} has the job {job.name!r}, which has no op {op!r}: {remedy}")


def check_name(argument: str, value: object) -> None:
    """Raises `TypeError` or `ValueError` for what cannot be a consumer's name."""
    check_type(argument, value, str, "a text")
    if isinstance(value, str) and not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise ValueError(refusal(argument, f"a text of 1 to {MAX_NAME_LENGTH} characters", value))
    if isinstance(value, str) and not (value.isprintable() and value.strip()):
        raise ValueError(refusal(argument, "a text that can be read", value))


def check_list(argument: str, values: object, types: type | tuple[type, ...], expected: str) -> None:
    """Raises `TypeError` unless it is a list, or another collection, of values of these types."""
    if not isinstance(values, Collection) or isinstance(values, str | bytes | Mapping):
        raise TypeError(refusal(argument, f"a list, each of it {expected}", values))
    for place, value in enumerate(values):
        check_type(f"{argument}[{place}]", value, types, expected)


def check_routes(argument: str, values: object) -> None:
    """Raises `TypeError` or `ValueError` unless it is None, or a list of 1 to 50 routes."""
    if values is None:
        return
    check_list(argument, values, str, "the name of a route")
    names: Collection[str] = values  # type: ignore[assignment]
    if not 1 <= len(names) <= MAX_ROUTES:
        raise ValueError(f"{argument} must be 1 to {MAX_ROUTES} routes, or None for all; there are {len(names)}.")
    for name in names:
        if not re.fullmatch(ROUTE, name):
            expected = "small letters, digits, '.', '_' or '-', at most 50, with a letter or digit first"
            raise ValueError(refusal(f"A route in {argument}", expected, name))


def check_partitions(value: Any) -> None:
    """Raises `TypeError` for what is neither None nor a definition of partitions."""
    check_type("partitions_def", value, (PartitionsDefinition, type(None)), "a PartitionsDefinition, or None")
