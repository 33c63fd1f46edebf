"""Decides which rows of a claim share a run, and how many; a row with which a run has died is alone in its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagster_reportqueue.client import Claim, QueueItem


@dataclass(frozen=True)
class Group:
    """The rows of one run, in the order of the claim."""

    items: Sequence[QueueItem]
    one_by_one: bool = False
    """Whether the run starts a row only after the row before it has ended."""


@dataclass(frozen=True)
class BatchSizes:
    """How many rows of a claim share a run, by the arguments `batch_from`, `batch_size`, `batch_runs` and `lanes`."""

    least: int
    most: int
    runs: int
    lanes: int

    def of(self, claim: Claim, *, full: bool) -> int:
        """The rows of each run, 1 if none share one; a `full` claim may have left rows behind."""
        claimed = len(claim.items)
        in_flight = max(claim.in_flight or 0, claimed)
        # Runs that wait in the launcher are a backlog too, which a single claim does not show. A redelivered claim may
        # be grouped differently, with other run keys: then the first run to start a row owns it.
        if in_flight < self.least:
            return 1
        if in_flight - claimed >= self.most:
            runs = 1  # the other rows take the slots of the launcher
        elif full:
            runs = -(-self.runs // self.lanes)  # the other lanes claim what was left behind
        else:
            runs = self.runs
        return min(self.most, max(self.least, -(-claimed // runs)))


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
