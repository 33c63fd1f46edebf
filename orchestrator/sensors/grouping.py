"""Which rows of a claim share a run: quick ones many, suspects none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.client import QueueItem


@dataclass(frozen=True)
class Group:
    """Rows for one run, in the order of the claim; one row has a run of its own."""

    items: Sequence[QueueItem]
    one_by_one: bool = False
    """Whether the run starts each row only once the one before it has ended."""


def grouped(items: Sequence[QueueItem], *, size: int, runs: int, most: int) -> list[Group]:
    """Share the rows out among runs of up to `size` rows, evenly, in the order of the claim.

    A report that ends its process must cost the others of its run neither an attempt nor much time:

    - A row with which a run has died goes alone; `runs` rows at most, further ones one by one.
    - A row on its last attempt is started only in its turn, one by one: an attempt is used up by its own fault alone.
    - A row whose launches came to nothing goes in runs of half, a quarter, an eighth of the size.

    There are about `most` groups at most: the smallest runs are larger where a claim has many rows.
    """
    smallest = -(-len(items) // most)
    groups: list[Group] = []
    shared: dict[tuple[int, bool], list[QueueItem]] = {}
    for item in items:
        share = max(smallest, size >> min(item.launch_failures, size))
        if item.alone or share < 2:
            if len(groups) < runs:
                groups.append(Group([item]))
            else:
                shared.setdefault((size, True), []).append(item)
        else:
            shared.setdefault((share, item.is_last_attempt), []).append(item)
    for (share, one_by_one), some in shared.items():
        groups += [Group(part, one_by_one) for part in _evenly(some, share)]
    place = {item.queue_id: place for place, item in enumerate(items)}
    return sorted(groups, key=lambda group: place[group.items[0].queue_id])


def _evenly(items: Sequence[QueueItem], size: int) -> list[Sequence[QueueItem]]:
    number = -(-len(items) // size)
    return [items[len(items) * n // number : len(items) * (n + 1) // number] for n in range(number)]
