"""The log: a receiver of `transitioned_together`, with the facts as attributes of its records."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from django.db import Error

from reportqueue import catalogue
from reportqueue.signals import Transition
from reportqueue.states import Verb

logger = logging.getLogger("reportqueue")
_LEVELS = {Verb.RESCUE: logging.WARNING, Verb.FAIL: logging.WARNING}
NAMED = 100
"""Rows in one record."""


def log_transitions(sender: Any, transitions: Sequence[Transition], **_: Any) -> None:
    """Log a line for people, with the attributes `action`, `queue_id`, `status_before`, `status_after`, ... .

    Rows that a call has moved together share a record, `NAMED` at most: it has `queue_ids`, and none of the attributes
    in which they may differ.
    """
    for (verb, before, after), moved in groupby(transitions, key=lambda one: (one.verb, one.before, one.after)):
        level = _LEVELS.get(verb, logging.INFO)
        if not logger.isEnabledFor(level):
            continue
        together = list(moved)
        facts = {"action": verb.value, "status_before": before, "status_after": after}
        names = _names(together)
        if len(together) == 1:
            _log_one(level, together[0], facts, names.get(together[0].report_id, ""))
            continue
        for first in range(0, len(together), NAMED):
            _log_several(level, together[first : first + NAMED], facts, names)


def _names(transitions: Sequence[Transition]) -> dict[int, str]:
    try:
        return catalogue.remembered_names({one.report_id for one in transitions})
    except Error:  # the rows have moved: their line is more important than the names in it
        return {}


def _log_one(level: int, one: Transition, facts: dict[str, Any], report_name: str) -> None:
    own = one._asdict()
    for name in ("verb", "before", "after"):
        del own[name]
    logger.log(
        level,
        "%s: report %d (%s, %d) %s -> %s",
        one.verb,
        one.queue_id,
        catalogue.label(one.report_id, report_name),
        one.modifier_id,
        one.before or "new",
        one.after,
        extra=own | facts | {"report_name": report_name},
    )


def _log_several(level: int, some: Sequence[Transition], facts: dict[str, Any], names: Mapping[int, str]) -> None:
    reports = {one.report_id: catalogue.label(one.report_id, names.get(one.report_id)) for one in some}
    named = ", ".join([f"{one.queue_id} ({reports[one.report_id]}, {one.modifier_id})" for one in some])
    logger.log(
        level,
        "%s: %d reports %s -> %s: %s",
        some[0].verb,
        len(some),
        some[0].before or "new",
        some[0].after,
        named,
        extra={"queue_ids": [one.queue_id for one in some]} | facts,
    )
