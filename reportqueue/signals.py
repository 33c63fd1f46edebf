"""What happened to a row, told once it is committed: `transitioned`, for logs, metrics and the project's own code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from django.db import transaction
from django.dispatch import Signal

from reportqueue import notices
from reportqueue.models import ReportQueue
from reportqueue.states import Status, Verb


@dataclass(frozen=True)
class Transition:
    """One row's move; without params, token and texts: they may be confidential."""

    verb: Verb
    queue_id: int
    report_id: int
    modifier_id: int
    before: str
    """The status it left; empty for a new row."""
    after: str
    generation: int
    attempt: int
    run_id: str
    claimed_by: str


ANNOUNCED = ("report_id", "modifier_id", "status", "generation", "attempt", "run_id", "claimed_by")
"""The fields of a row that `announce` reads: who reads no other need not load the others of a hundred rows."""

transitioned = Signal(use_caching=True)
"""Sent with `transition=Transition(...)` after commit, in order; sender is `ReportQueue`. A receiver that raises is
logged by Django and stops nobody: the row has moved."""


def announce(verb: Verb, rows: Iterable[ReportQueue], before: str, *, claimed_by: str = "") -> None:
    """Send `transitioned` for rows as they are now, once the transaction around them commits.

    `claimed_by` is who held the rows, where the move itself took that from them.
    """
    moves = [
        Transition(
            verb=verb,
            queue_id=row.pk,
            report_id=row.report_id,
            modifier_id=row.modifier_id,
            before=before,
            after=row.status,
            generation=row.generation,
            attempt=row.attempt,
            run_id=row.run_id,
            claimed_by=row.claimed_by or claimed_by,
        )
        for row in rows
    ]
    announce_all(moves)


def announce_all(moves: Sequence[Transition]) -> None:
    """Send `transitioned` for each, once the transaction around them commits; and wake claims that wait for rows."""
    if any(move.after == Status.QUEUED for move in moves):
        notices.notify(notices.ROWS)
    if moves:
        transaction.on_commit(partial(_send, moves))


def _send(moves: Sequence[Transition]) -> None:
    for move in moves:
        transitioned.send_robust(sender=ReportQueue, transition=move)
