"""A verb for all rows of a query, each alone: what it did, or would do, and what is refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, QuerySet

from reportqueue.errors import ReportQueueError
from reportqueue.models import ReportQueue
from reportqueue.states import TRANSITIONS, Status, Verb

BATCH = 500
NAMED = 10
"""Rows that a text names; it counts the others."""
PARTICIPLES = {Verb.REQUEUE: "requeued", Verb.CANCEL: "cancelled"}
Call = Callable[..., ReportQueue]


@dataclass
class Done:
    """What became of the rows."""

    done: Counter[str] = field(default_factory=Counter)
    """Rows that were changed, by their new status."""
    already: list[int] = field(default_factory=list)
    """Rows that are as the verb would make them."""
    refused: dict[str, list[int]] = field(default_factory=dict)
    """Rows that were refused, by the reason."""


def act(rows: QuerySet[ReportQueue], verb: Verb, call: Call, progress: Callable[[int], None], **arguments: Any) -> Done:
    """Do it to each row in a transaction of its own, in the order of their numbers."""
    found = Done()
    for several in _batches(rows):
        for pk, status in several:
            if _is_already(verb, status):
                found.already.append(pk)
                continue
            try:
                found.done[call(pk, **arguments).status] += 1
            except ReportQueueError as error:
                found.refused.setdefault(str(error), []).append(pk)
        progress(found.done.total())
    return found


@dataclass(frozen=True)
class Preview:
    """What a verb would do."""

    matching: int
    """All rows that match."""
    changed: int
    first: list[int]
    """The first of the rows that would be changed."""
    running: int
    """Those of them that would be asked to stop."""
    already: list[int]
    refused: dict[str, list[int]]
    """The first rows that would be refused, by the reason."""
    refused_rows: dict[str, int]
    """How many, by the reason."""


def preview(rows: QuerySet[ReportQueue], verb: Verb) -> Preview:
    """What the verb would do to the rows as they are now."""
    counts = dict(rows.order_by().values_list("status").annotate(Count("pk")))
    takes = [status for status in counts if status in TRANSITIONS[verb]]
    already = [status for status in counts if _is_already(verb, status)]
    others = {status: _why(verb, status) for status in counts if status not in [*takes, *already]}

    def first(statuses: Sequence[str]) -> list[int]:
        return list(rows.filter(status__in=statuses).order_by("pk").values_list("pk", flat=True)[:NAMED])

    firsts = {why: first([status]) for status, why in others.items()}
    return Preview(
        matching=sum(counts.values()),
        changed=sum(counts[status] for status in takes),
        first=first(takes) if takes else [],
        running=counts.get(Status.RUNNING, 0) if Status.RUNNING in takes else 0,
        already=first(already) if already else [],
        refused=dict(sorted(firsts.items(), key=lambda one: one[1])),
        refused_rows={why: counts[status] for status, why in others.items()},
    )


def some(pks: Sequence[int], count: int | None = None) -> str:
    """The first rows by their numbers, and how many more there are."""
    more = (len(pks) if count is None else count) - len(pks[:NAMED])
    return ", ".join(f"#{pk}" for pk in pks[:NAMED]) + (f" and {more:,} more" if more else "")


def _is_already(verb: Verb, status: str) -> bool:
    return verb is Verb.CANCEL and status == Status.CANCELLED


def _why(verb: Verb, status: str) -> str:
    """As `queue` refuses it."""
    return f"A {status} report cannot be {PARTICIPLES[verb]}."


def _batches(rows: QuerySet[ReportQueue]) -> Iterator[list[tuple[int, str]]]:
    last = -1
    while several := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", "status")[:BATCH]):
        yield several
        last = several[-1][0]
