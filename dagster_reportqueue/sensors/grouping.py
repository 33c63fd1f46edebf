"""Decides which rows of a claim share a run; a row with which a run has died is alone in its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagster_reportqueue.client import QueueItem


@dataclass(frozen=True)
class Group:
    """The rows of one run, in the order of the claim."""

    items: Sequence[QueueItem]
    one_by_one: bool = False
    """Whether the run starts a row only after the row before it has ended."""


def grouped(items: Sequence[QueueItem], *, size: int, runs: int, most: int) -> list[Group]:
    """Distribute rows evenly among runs of up to `size` rows, in the order of the claim.

    A report that ends its process must cost the other reports of its run no attempt, and little time:

    - A row with which a run has died is alone in its run. This holds for `runs` rows; further ones share a run that
      starts them one by one.
    - Rows on their last attempt are started one by one, so that only their own fault uses up the attempt.
    - A row whose launches have failed goes into runs of half, a quarter, an eighth of the size, and so on.

    There are about `most` groups at most. In a claim of many rows, the smallest runs are therefore larger.
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
