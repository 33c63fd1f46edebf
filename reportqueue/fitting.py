"""Which schedules have parameters that their report's schema, or its defaults, no longer fit."""

from __future__ import annotations

from dataclasses import dataclass, field

from reportqueue import params_schema
from reportqueue.catalogue import Terms
from reportqueue.models import Report, ReportSchedule
from reportqueue.schema_evaluation import Budget

FIELDS = frozenset({"params_schema", "default_params"})
"""The fields of a report that decide it."""
CHECKED = 1_000
"""Schedules of one report that are checked."""


@dataclass
class Misfits:
    """The schedules of one report whose parameters do not fit. They go on queueing them."""

    pks: list[int] = field(default_factory=list)
    unchecked: int = 0
    """Schedules beyond the bounds of the check."""


def misfits(report: Report, budget: Budget | None = None) -> Misfits:
    """Check the schedules of a report that was added or changed. `budget`: the steps for several reports."""
    found, budget = Misfits(), budget or params_schema.call_budget()
    if report.params_schema is None:
        return found
    terms = Terms(default_params=report.default_params, params_schema=report.params_schema)
    schedules = ReportSchedule.objects.filter(report_id=report.pk).order_by("pk")
    checked = 0
    for pk, params in schedules.values_list("pk", "params")[:CHECKED].iterator():
        if budget.left < params_schema.MAX_STEPS:
            break  # what is left is too little to be sure of this one
        checked += 1
        if params_schema.problems(terms.params_schema, terms.merged(params), budget=budget):
            found.pks.append(pk)
    found.unchecked = schedules.count() - checked
    return found
