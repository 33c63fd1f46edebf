"""Data protection: erase what the installation keeps of one modifier, such as a customer. docs/data-protection.md.

`decisions` says what becomes of each column; `goings_on` stops what makes new rows; `rows` erases rows, attempts and
files; `mentions` and `audit_texts` erase what tells of them elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from reportqueue import audit, bounds
from reportqueue.erasure import goings_on, mentions, rows
from reportqueue.erasure.artifacts import RowFiles, deleter
from reportqueue.erasure.goings_on import GoingOn, going_on
from reportqueue.errors import ErasureRefused
from reportqueue.models.audit import Kind

__all__ = ["BATCH", "Erased", "GoingOn", "RowFiles", "deleter", "erase_modifier", "going_on"]
BATCH = 500
"""Rows of one transaction."""


@dataclass
class Erased:
    """What was erased, or would be."""

    counts: Counter[str] = field(default_factory=Counter)
    """By kind, such as `rows` or `audit entries`: how many had something to erase."""
    left: int = 0
    """What goes on, such as rows that have not ended, and records that others held. Erase once more for them."""


def erase_modifier(
    modifier_id: int,
    *,
    not_deleted: Callable[[int, str], None],
    cancel: bool = False,
    dry_run: bool = False,
    batch: int = BATCH,
    progress: Callable[[str, int], None] = lambda kind, count: None,
    runs: Callable[[Collection[str]], None] = lambda run_ids: None,
) -> Erased:
    """Erase the data of a modifier in all tables of the app, and delete its schedules and webhook sources.

    Numbers, times and statuses stay. It takes many short transactions: it may be stopped at any time and called again,
    beside everything else. Do not call it in a transaction.

    `not_deleted` gets the row and the address of each artifact that the setting `DELETE_ARTIFACTS` has not deleted:
    afterwards nobody knows them. `progress` gets a kind and how many more of it are done. `runs` gets the ids of the
    modifier's runs in Dagster, some of them more than once. `dry_run` counts all but the titles of muted failures.

    Raises `ErasureRefused` if the modifier has unfinished rows, enabled schedules or sources, or open bulk actions.
    With `cancel` it ends these instead. Raises `ValidationError` for numbers out of bounds. The audit gets one entry of
    what was done, also if this ends with an error.
    """
    bounds.validate_numbers(modifier_id=modifier_id, batch=batch)
    delete = deleter()
    found = going_on(modifier_id)
    if found and not cancel and not dry_run:
        raise ErasureRefused(f"Modifier {modifier_id} is in use: {found}. Nothing was erased.")
    done = Erased()
    try:
        if found and not dry_run:
            goings_on.stop(modifier_id, found, progress)
        of_rows = rows.erase(
            modifier_id, batch=batch, dry_run=dry_run, delete=delete, not_deleted=not_deleted, runs=runs
        )
        for part in (of_rows, mentions.erase(modifier_id, dry_run=dry_run)):
            for counts, left in part:
                done.counts += counts
                done.left += left
                for kind, count in counts.items():
                    progress(kind, count)
        done.counts += goings_on.delete(modifier_id, dry_run=dry_run)
        done.left += going_on(modifier_id).count
    finally:
        if not dry_run:
            changes = {kind: [None, count] for kind, count in sorted(done.counts.items())}
            audit.record("erase", Kind.MODIFIER, modifier_id, label=f"modifier {modifier_id}", changes=changes)
    return done
