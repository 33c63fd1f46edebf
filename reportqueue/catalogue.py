"""What the catalogue says of reports: the terms of new rows, where their caller says nothing, and names."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError

from reportqueue import bounds, params_schema
from reportqueue.models.report import DEFAULT_ROUTE, Report
from reportqueue.schema_evaluation import Budget

DEFAULT_PRIORITY = 0
REMEMBERED_SECONDS = 60
MAX_REMEMBERED = 10_000
_remembered: dict[int, tuple[str, float]] = {}
"""Of reports, their names, and until when on the process's clock these are used."""


@dataclass(frozen=True)
class Terms:
    """What holds for the rows of a report; without an entry in the catalogue, the defaults."""

    default_params: Mapping[str, Any] = field(default_factory=dict)
    params_schema: Mapping[str, Any] | None = None
    priority: int = DEFAULT_PRIORITY
    max_attempts: int = bounds.DEFAULT_ATTEMPTS
    route: str = DEFAULT_ROUTE
    expires_after_seconds: int | None = None
    deadline_seconds: int | None = None

    def params(self, given: Mapping[str, Any], budget: Budget | None = None) -> dict[str, Any]:
        """The parameters of a row: the defaults, and what the caller gives instead or beside.

        `budget`: the steps for all parameters of the caller's call. Raises `ValidationError` if the parameters do not
        fit the schema, with the path and what was expected.
        """
        params = self.merged(given)
        if found := params_schema.problems(self.params_schema, params, budget=budget):
            raise ValidationError(found, code="schema")
        if self.default_params:
            bounds.validate_json_object(params)
        return params

    def merged(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The same, unchecked."""
        return {**self.default_params, **given}


NONE = Terms()
"""Of a report without an entry."""


def terms(report_ids: Iterable[int]) -> dict[int, Terms]:
    """The terms of each of the reports; `NONE` for those without an entry."""
    wanted = set(report_ids)
    return dict.fromkeys(wanted, NONE) | {entry.pk: _terms(entry) for entry in Report.objects.filter(pk__in=wanted)}


def _terms(entry: Report) -> Terms:
    return Terms(
        default_params=entry.default_params,
        params_schema=entry.params_schema,
        priority=DEFAULT_PRIORITY if entry.priority is None else entry.priority,
        max_attempts=bounds.DEFAULT_ATTEMPTS if entry.max_attempts is None else entry.max_attempts,
        route=entry.route,
        expires_after_seconds=entry.expires_after_seconds,
        deadline_seconds=entry.deadline_seconds,
    )


def names(report_ids: Collection[int]) -> dict[int, str]:
    """The names of those of the reports that have one."""
    return dict(Report.objects.filter(pk__in=set(report_ids)).values_list("pk", "name"))


def remembered_names(report_ids: Collection[int]) -> dict[int, str]:
    """The names as they were at most `REMEMBERED_SECONDS` ago; for the log, which is not to ask for each line."""
    now, wanted = time.monotonic(), set(report_ids)
    if unknown := {pk for pk in wanted if _remembered.get(pk, ("", 0.0))[1] <= now}:
        if len(_remembered) + len(unknown) > MAX_REMEMBERED:
            _remembered.clear()
        found = names(unknown)
        _remembered.update({pk: (found.get(pk, ""), now + REMEMBERED_SECONDS) for pk in unknown})
    return {pk: name for pk in wanted if (name := _remembered.get(pk, ("", 0.0))[0])}


def forget_names(**_: Any) -> None:
    """Let the names be read anew: the catalogue has changed."""
    _remembered.clear()


def number_of(text: str) -> int | None:
    """The number of the report that a text means: the number itself, or its name in the catalogue. None: no such name.

    A number need not be in the catalogue.
    """
    if text.isascii() and text.isdigit():
        return bounds.as_id(text)
    return Report.objects.called(text).values_list("pk", flat=True).first()


def leases(report_ids: Collection[int]) -> dict[int, timedelta]:
    """The leases of those of the reports that have one."""
    entries = Report.objects.filter(pk__in=set(report_ids)).values_list("pk", "lease_seconds")
    return {pk: timedelta(seconds=seconds) for pk, seconds in entries if seconds is not None}


def name_rows(rows: Iterable[Any]) -> None:
    """Give each row, or another object with a `report_id`, the name of its report, as `report_name`."""
    named = list(rows)
    known = names({row.report_id for row in named})
    for row in named:
        row.report_name = known.get(row.report_id, "")


def label(number: int, name: str | None) -> str:
    """A report or a modifier for people: its name with its number, or its number alone."""
    return f"{name} ({number})" if name else str(number)
