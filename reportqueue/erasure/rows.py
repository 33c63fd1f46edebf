"""The rows of a modifier and their attempts: batches, each in a transaction of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from django.db.models import Q
from django.db.models.fields.json import KeyTransform

from reportqueue import database, keyset, locks
from reportqueue.clock import ClockTimestamp
from reportqueue.erasure import audit_texts
from reportqueue.erasure.artifacts import Delete, RowFiles, artifacts_of
from reportqueue.erasure.decisions import emptied, to_empty
from reportqueue.models import AuditEntry, MutedFailure, ReportAttempt, ReportQueue
from reportqueue.models.audit import Kind
from reportqueue.models.queue import failed_like
from reportqueue.states import FINAL, Status

BUSY_SECONDS = 0.1
"""How long a batch waits for a lock beside those of its rows."""
ROWS, ATTEMPTS, ARTIFACTS, FAILURES = "rows", "attempts", "artifacts", "muted failures"
_TO_ERASE = to_empty(ReportQueue) | Q(erased_at=None)
"""Also of a row that has no parameters: it must not be run again, as little as the others."""
Address = Callable[[int, str], None]
Runs = Callable[[Collection[str]], None]


def erase(
    modifier_id: int, *, batch: int, dry_run: bool, delete: Delete | None, not_deleted: Address, runs: Runs
) -> Iterator[tuple[Counter[str], int]]:
    """Erase the final rows; after each commit, the counts and how many rows were left, since others hold them.

    Before a row's addresses are erased, each that `delete` has not deleted is given to `not_deleted`. The ids of all
    runs are given to `runs`. An index has these rows in this order: see `reportqueue_ended_modifier`.
    """
    order = ("trigger_time", "pk")
    ended = ReportQueue.objects.filter(modifier_id=modifier_id, status__in=sorted(FINAL)).order_by(*order)
    ended = ended.annotate(artifacts=KeyTransform("artifacts", "result"))
    ended = ended.only("report_id", "modifier_id", "trigger_time", "finished_at", "run_id", "status", "fingerprint")
    left = ended
    while True:
        with database.in_index_order():
            rows = list(left[:batch])
        if not rows:
            return
        counts: Counter[str] = Counter()
        of_row = _runs_of(rows)
        runs({run_id for several in of_row.values() for run_id in several})
        for row in rows:
            counts[ARTIFACTS] += _delete_files(row, of_row[row.pk], None if dry_run else delete, not_deleted, dry_run)
        skipped = 0
        if dry_run:
            pks = [row.pk for row in rows]
            counts[ROWS] += ReportQueue.objects.filter(_TO_ERASE, pk__in=pks).count()
            counts[ATTEMPTS] += ReportAttempt.objects.filter(to_empty(ReportAttempt), queue__in=pks).count()
        else:
            skipped = _empty(rows, counts)
        yield counts, skipped
        if len(rows) < batch:
            return
        left = ended.filter(keyset.beyond(order, (rows[-1].trigger_time, rows[-1].pk)))


def _runs_of(rows: Sequence[Any]) -> dict[int, list[str]]:
    """The runs of each row, without those that it does not know any more."""
    found: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        found[row.pk] += [row.run_id] if row.run_id else []
    attempts = ReportAttempt.objects.filter(queue__in=list(found)).order_by("pk")
    for pk, *run_ids in attempts.values_list("queue_id", "run_id", "parent_run_id"):
        found[pk] += [run_id for run_id in run_ids if run_id and run_id not in found[pk]]
    return found


def _delete_files(row: Any, run_ids: list[str], delete: Delete | None, not_deleted: Address, dry_run: bool) -> int:
    """How many addresses there are; those of files that are not deleted are given to `not_deleted`."""
    artifacts = artifacts_of(row.artifacts)
    gone: Collection[str] = ()
    if delete is not None:
        gone = delete(RowFiles(row.pk, row.report_id, row.modifier_id, tuple(run_ids), artifacts))
    if not dry_run:
        for address in artifacts.values():
            if address not in gone:
                not_deleted(row.pk, address)
    return len(artifacts)


def _empty(rows: Sequence[Any], counts: Counter[str]) -> int:
    """Empty the rows that are as they were read; how many were not, or are held by others."""
    read = {row.pk: row for row in rows}
    with locks.bounded(BUSY_SECONDS):
        free = ReportQueue.objects.filter(pk__in=list(read), status__in=sorted(FINAL))
        locked = free.select_for_update(skip_locked=True, of=("self",)).values_list("pk", "finished_at")
        pks = [pk for pk, finished_at in locked if finished_at == read[pk].finished_at]
        to_erase = ReportQueue.objects.filter(_TO_ERASE, pk__in=pks)
        counts[ROWS] += to_erase.update(**emptied(ReportQueue), erased_at=ClockTimestamp())
        counts[ATTEMPTS] += ReportAttempt.objects.filter(to_empty(ReportAttempt), queue__in=pks).update(
            **emptied(ReportAttempt)
        )
        failures = {read[pk].fingerprint for pk in pks if read[pk].status == Status.FAILED} - {""}
        if failures:
            counts[FAILURES] += _empty_failures(failures)
    return len(read) - len(pks)


def _empty_failures(fingerprints: Collection[str]) -> int:
    """Empty the titles of muted failures that no other row has: they are from the errors of the rows of this batch."""
    alone = [one for one in fingerprints if not ReportQueue.objects.filter(failed_like(one)).exists()]
    audit_texts.hide(AuditEntry.objects.filter(kind=Kind.FAILURE, object_id__in=alone))
    return MutedFailure.objects.filter(to_empty(MutedFailure), pk__in=alone).update(**emptied(MutedFailure))
