"""A verb for all rows of a query, each alone: what it did, or would do, and what is refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet

from reportqueue.errors import ReportQueueError, RowErased
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
    rows = rows.annotate(erased=ExpressionWrapper(Q(erased_at__isnull=False), BooleanField()))
    counts: Counter[tuple[str, bool]] = Counter()
    for status, erased, count in rows.order_by().values_list("status", "erased").annotate(Count("pk")):
        counts[status, erased] += count
    already = [kind for kind in counts if _is_already(verb, kind[0])]
    others = {kind: why for kind in counts if kind not in already and (why := _refusal(verb, *kind))}
    takes = [kind for kind in counts if kind not in already and kind not in others]

    def first(kinds: Sequence[tuple[str, bool]]) -> list[int]:
        among = Q()
        for status, erased in kinds:
            among |= Q(status=status, erased=erased)
        return list(rows.filter(among).order_by("pk").values_list("pk", flat=True)[:NAMED]) if kinds else []

    refused: dict[str, list[tuple[str, bool]]] = {}
    for kind, why in others.items():
        refused.setdefault(why, []).append(kind)
    firsts = {why: first(kinds) for why, kinds in refused.items()}
    return Preview(
        matching=counts.total(),
        changed=sum(counts[kind] for kind in takes),
        first=first(takes),
        running=sum(counts[kind] for kind in takes if kind[0] == Status.RUNNING),
        already=first(already),
        refused=dict(sorted(firsts.items(), key=lambda one: one[1])),
        refused_rows={why: sum(counts[kind] for kind in kinds) for why, kinds in refused.items()},
    )


def some(pks: Sequence[int], count: int | None = None) -> str:
    """The first rows by their numbers, and how many more there are."""
    more = (len(pks) if count is None else count) - len(pks[:NAMED])
    return ", ".join(f"#{pk}" for pk in pks[:NAMED]) + (f" and {more:,} more" if more else "")


def _is_already(verb: Verb, status: str) -> bool:
    return verb is Verb.CANCEL and status == Status.CANCELLED


def _refusal(verb: Verb, status: str, erased: bool) -> str:
    """As `queue` refuses it; empty if it does not."""
    if status not in TRANSITIONS[verb]:
        return f"A {status} report cannot be {PARTICIPLES[verb]}."
    return str(RowErased()) if erased else ""


def _batches(rows: QuerySet[ReportQueue]) -> Iterator[list[tuple[int, str]]]:
    last = -1
    while several := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", "status")[:BATCH]):
        yield several
        last = several[-1][0]
