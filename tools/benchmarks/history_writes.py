"""What the indexes of the lists cost the moves of a row: PostgreSQL's CPU time, compared with the index before them."""

from __future__ import annotations

import statistics

from tools.benchmarks import history_rows, moves

INDEXES = ("unfinished", "ended_status", "ended_source", "ended_report", "ended_modifier", "run")
"""Their names without `reportqueue_`."""
REPLACED = "benchmark_trigger_time"
"""An index of all rows by `trigger_time`, which those of the lists have replaced: the moves are compared with it."""
ROUNDS = 12
ROWS = 400
"""Rows that are enqueued, claimed, acknowledged, started and completed in one turn."""
BATCH = 50
"""Rows of one call, as many as a run of the demo makes. A row alone costs more, its indexes do not."""


def compare() -> tuple[float, float]:
    """The median CPU seconds of `ROWS` rows with the replaced index, and with those of the lists.

    Afterwards the indexes lack rows: the tables must be truncated before they are used again.
    """
    # A vacuum would leave in an index that is ignored what it removes from the table.
    history_rows.execute("ALTER TABLE reportqueue_reportqueue SET (autovacuum_enabled = false)")
    history_rows.execute(f"CREATE INDEX {REPLACED} ON reportqueue_reportqueue (trigger_time)")
    names = [f"reportqueue_{name}" for name in INDEXES]
    before, after = [], []
    for turn in range(ROUNDS + 1):
        # The first turn is not counted. The order changes, so that what a turn leaves behind affects both.
        for indexed in (True, False) if turn % 2 else (False, True):
            # Dropping and making them takes too long for many turns.
            _switch(names, on=indexed)
            _switch([REPLACED], on=not indexed)
            seconds = _moved()
            if turn:
                (after if indexed else before).append(seconds)
    _switch(names, on=True)
    history_rows.execute(f"DROP INDEX {REPLACED}")
    history_rows.execute("ALTER TABLE reportqueue_reportqueue RESET (autovacuum_enabled)")
    return statistics.median(before), statistics.median(after)


def _moved() -> float:
    """The CPU seconds of moving `ROWS` rows through the queue."""
    from reportqueue import queue

    history_rows.execute("CHECKPOINT")  # else some turns would log whole pages again, and others not
    before = history_rows.backend_seconds()
    for first in range(0, ROWS, BATCH):
        queue.enqueue_many([queue.NewReport(report_id=n % 50, modifier_id=n) for n in range(first, first + BATCH)])
    last, run = None, 0
    while (claim := queue.claim("benchmark", ack=last, limit=BATCH)).rows:
        last, run = claim.claim_id, run + 1
        moves.make(claim, run_id=f"{last}-{run}", result=lambda pk: {"artifacts": {"report.pdf": f"/r/{pk}"}})
    return history_rows.backend_seconds() - before


def _switch(names: list[str], *, on: bool) -> None:
    """Have PostgreSQL use these indexes, or ignore them."""
    history_rows.execute(
        """
        UPDATE pg_index SET indislive = %s, indisready = %s, indisvalid = %s
        WHERE indexrelid = ANY (ARRAY(SELECT oid FROM pg_class WHERE relname = ANY (%s)))
        """,
        [on, on, on, names],
    )
