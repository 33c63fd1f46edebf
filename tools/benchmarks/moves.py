"""Makes the rows of a claim, as a run does: starts and completes them, each in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reportqueue.queue import Claim


def make(
    claim: Claim,
    *,
    run_id: str,
    result: Callable[[int], Mapping[str, Any]],
    work: Callable[[], None] = lambda: None,
) -> None:
    """Start all rows of the claim, do the work, and complete those that could be; `result` gives a row's by its id."""
    from reportqueue import queue

    started = queue.start_many({row.pk: row.generation for row in claim.rows}, run_id=run_id)
    work()
    tokens = {pk: row.lease_token for pk, row in started.items() if not isinstance(row, Exception)}
    queue.complete_many({pk: token for pk, token in tokens.items() if token}, results={pk: result(pk) for pk in tokens})
