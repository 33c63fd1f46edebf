"""What the indexes of the lists cost the moves of a row: PostgreSQL's CPU time with them and without them, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from tools.benchmarks import history_rows

INDEXES = ("unfinished", "ended_status", "ended_source", "ended_report", "ended_modifier", "run")
"""Their names without `reportqueue_`."""
ROUNDS = 12
ROWS = 1_000
"""Rows that are enqueued, claimed, acknowledged, started and completed in one turn."""
BATCHES = (50, 1)
"""Rows of one call: as many as a run of the demo makes, and one."""


def compare() -> dict[int, tuple[float, float]]:
    """By the size of a batch: the median CPU seconds of `ROWS` rows without and with the indexes."""
    found = {}
    for batch in BATCHES:
        without, with_them = [], []
        for turn in range(ROUNDS + 1):
            # The first turn is not counted. The order changes, so that what a turn leaves behind affects both.
            for indexed in (True, False) if turn % 2 else (False, True):
                seconds = _turn(batch, ROWS if batch > 1 else ROWS // 4, indexed=indexed)
                if turn:
                    (with_them if indexed else without).append(seconds)
        found[batch] = statistics.median(without), statistics.median(with_them)
    return found


def _turn(batch: int, rows: int, *, indexed: bool) -> float:
    """The CPU seconds of moving so many rows through the queue, as if they were `ROWS`."""
    if indexed:
        return _moved(batch, rows)
    with _without_indexes():
        return _moved(batch, rows)


def _moved(batch: int, rows: int) -> float:
    from reportqueue import queue

    history_rows.execute("CHECKPOINT")  # else some turns would log whole pages again, and others not
    before = history_rows.backend_seconds()
    for first in range(0, rows, batch):
        queue.enqueue_many([queue.NewReport(report_id=n % 50, modifier_id=n) for n in range(first, first + batch)])
    last, run = None, 0
    while (claim := queue.claim("benchmark", ack=last, limit=batch)).rows:
        last, run = claim.claim_id, run + 1
        started = queue.start_many({row.pk: row.generation for row in claim.rows}, run_id=f"{last}-{run}")
        tokens = {pk: row.lease_token for pk, row in started.items() if not isinstance(row, Exception)}
        queue.complete_many(
            {pk: token for pk, token in tokens.items() if token},
            results={pk: {"artifacts": {"report.pdf": f"/r/{pk}"}} for pk in tokens},
        )
    return (history_rows.backend_seconds() - before) * ROWS / rows


@contextmanager
def _without_indexes() -> Iterator[None]:
    """Have PostgreSQL ignore the indexes of the lists: dropping and making them takes too long for many turns."""
    names = [f"reportqueue_{name}" for name in INDEXES]
    switch = """
        UPDATE pg_index SET indislive = %s, indisready = %s, indisvalid = %s
        WHERE indexrelid = ANY (ARRAY(SELECT oid FROM pg_class WHERE relname = ANY (%s)))
    """
    history_rows.execute(switch, [False, False, False, names])
    try:
        yield
    finally:
        history_rows.execute(switch, [True, True, True, names])
