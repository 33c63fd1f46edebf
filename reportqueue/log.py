"""The log: a receiver of `transitioned` that writes one record for each transition, with its facts as attributes."""

from __future__ import annotations

import logging
from typing import Any

from reportqueue.signals import Transition
from reportqueue.states import Verb

logger = logging.getLogger("reportqueue")
_LEVELS = {Verb.RESCUE: logging.WARNING, Verb.FAIL: logging.WARNING}


def log_transition(sender: Any, transition: Transition, **_: Any) -> None:
    """Log a line for people, with the attributes `action`, `queue_id`, `status_before`, `status_after`, ... ."""
    level = _LEVELS.get(transition.verb, logging.INFO)
    if not logger.isEnabledFor(level):
        return
    # `asdict` copies deeply: with many rows at once, that would cost more than the transitions.
    facts = dict(vars(transition))
    facts["action"] = facts.pop("verb").value
    facts["status_before"], facts["status_after"] = facts.pop("before"), facts.pop("after")
    logger.log(
        level,
        "%s: report %d (%d, %d) %s -> %s",
        transition.verb,
        transition.queue_id,
        transition.report_id,
        transition.modifier_id,
        transition.before or "new",
        transition.after,
        extra=facts,
    )
