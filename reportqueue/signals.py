"""`transitioned`: a signal for each transition of a row, after its commit, for logs, metrics and the project's code."""

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
    """One row's transition. It has no params, token or texts: they may be confidential."""

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
"""The fields of a row that `announce` reads. A caller that needs no others loads only these."""

transitioned = Signal(use_caching=True)
"""Sent with `transition=Transition(...)` after commit, in order; sender is `ReportQueue`. If a receiver raises, Django
logs that and calls the others: the transition is committed."""


def announce(verb: Verb, rows: Iterable[ReportQueue], before: str, *, claimed_by: str = "") -> None:
    """Send `transitioned` for the rows as they are now, once the transaction commits.

    `claimed_by` is the consumer that held the rows, for a transition that has cleared their own field.
    """
    transitions = [
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
    announce_all(transitions)


def announce_all(transitions: Sequence[Transition]) -> None:
    """Once the transaction commits, send `transitioned` for each, and notify waiting claims if a row is queued."""
    if any(transition.after == Status.QUEUED for transition in transitions):
        notices.notify(notices.ROWS)
    if transitions:
        transaction.on_commit(partial(_send, transitions))


def _send(transitions: Sequence[Transition]) -> None:
    for transition in transitions:
        transitioned.send_robust(sender=ReportQueue, transition=transition)
