"""`transitioned`: a signal for each transition of a row, after its commit, for metrics and the project's code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from django.dispatch import Signal

from reportqueue import database, notices
from reportqueue.models import ReportQueue
from reportqueue.states import Status, Verb


class Transition(NamedTuple):
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


transitioned = Signal(use_caching=True)
"""Sent with `transition=Transition(...)` after commit, in order; sender is `ReportQueue`. If a receiver raises, Django
logs that and calls the others: the transition is committed."""
transitioned_together = Signal(use_caching=True)
"""Sent before that, once for all rows that a call has moved: with `transitions=[Transition(...), ...]`, in order."""


def announce(verb: Verb, rows: Iterable[ReportQueue], before: str, *, claimed_by: str = "") -> None:
    """Send `transitioned` for the rows as they are now, once the transaction commits.

    `claimed_by` is the consumer that held the rows, for a transition that has cleared their own field.
    """
    announce_all(
        [
            Transition(
                verb,
                row.pk,
                row.report_id,
                row.modifier_id,
                before,
                row.status,
                row.generation,
                row.attempt,
                row.run_id,
                row.claimed_by or claimed_by,
            )
            for row in rows
        ]
    )


def announce_all(transitions: Sequence[Transition]) -> None:
    """Once the transaction commits, send the signals, and notify waiting claims if a row is queued."""
    if any(transition.after == Status.QUEUED for transition in transitions):
        notices.notify(notices.ROWS)
    if transitions:
        database.on_commit(partial(_send, transitions))


def _send(transitions: Sequence[Transition]) -> None:
    transitioned_together.send_robust(sender=ReportQueue, transitions=transitions)
    if transitioned.has_listeners(ReportQueue):
        for transition in transitions:
            transitioned.send_robust(sender=ReportQueue, transition=transition)
