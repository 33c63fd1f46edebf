"""Waiting for locks: never for longer than `LOCK_TIMEOUT_SECONDS`; and locks on what no row stands for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction
from psycopg import errors

from reportqueue.conf import conf
from reportqueue.errors import RowBusy

PATIENT = 4
"""Transactions of one process that may wait for the whole time at once. Each holds a thread of the web server: were all
threads to wait, nothing else would be answered."""
IMPATIENT_SECONDS = 0.25
"""How long the others wait."""
_patient = threading.BoundedSemaphore(PATIENT)
_BUSY = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)


@contextmanager
def bounded(seconds: float | None = None) -> Iterator[None]:
    """A transaction that waits for each lock for at most `LOCK_TIMEOUT_SECONDS`, or for `seconds` if that is less.

    Inside the caller's own transaction it is a savepoint, and the caller's `lock_timeout` holds. Raises `RowBusy`, also
    for a deadlock; nothing was changed then.
    """
    try:
        if connection.in_atomic_block:
            with transaction.atomic():
                yield
        else:
            with _time_to_wait(seconds) as bound, transaction.atomic():
                with connection.cursor() as cursor:
                    # For this transaction alone: a connection pool may give the next one to somebody else.
                    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{max(1, round(bound * 1000))}ms"])
                yield
    except OperationalError as error:
        if is_busy(error):
            raise RowBusy from error
        raise


def is_busy(error: BaseException) -> bool:
    """Whether a database error says that another transaction holds what this one needs: it may be repeated soon."""
    return isinstance(error.__cause__, _BUSY)


@contextmanager
def _time_to_wait(seconds: float | None) -> Iterator[float]:
    whole = conf().lock_timeout_seconds
    wanted = whole if seconds is None else min(seconds, whole)
    patient = wanted > IMPATIENT_SECONDS and _patient.acquire(blocking=False)
    try:
        yield wanted if patient else min(wanted, IMPATIENT_SECONDS)
    finally:
        if patient:
            _patient.release()


def lock_until_commit(name: str) -> None:
    """Let one transaction at a time do what `name` stands for: wait for it, and hold it until this one ends."""
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])
