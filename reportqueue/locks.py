"""Bounded waits for row locks (at most `LOCK_TIMEOUT_SECONDS`), advisory locks by name, views without a transaction."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import psycopg
from django.db import InterfaceError, OperationalError, connections
from django.db.transaction import non_atomic_requests
from psycopg import errors

from reportqueue import database, plans
from reportqueue.conf import conf
from reportqueue.errors import RowBusy

PATIENT = 4
"""Transactions of one process that may wait for the whole time at once. Each holds a thread of the web server: if all
threads waited, no other request would be answered."""
IMPATIENT_SECONDS = 0.25
"""How long every further transaction waits."""
_TIMEOUT_AND_LOCK = """
SELECT pg_advisory_xact_lock(%s){settings}
FROM (SELECT set_config('lock_timeout', %s, true) AS timeout OFFSET 0) AS first
WHERE timeout IS NOT NULL
"""
"""One statement instead of two. The subquery has to be done before there is a row for which the lock is taken."""
_LOCK = _TIMEOUT_AND_LOCK.format(settings="")
_LOCK_FOR_INDEX_PLANS = _TIMEOUT_AND_LOCK.format(
    settings="".join(f", set_config('{name}', '{value}', true)" for name, value in plans.SETTINGS.items())
)
View = TypeVar("View", bound=Callable[..., Any])
_patient = threading.BoundedSemaphore(PATIENT)
_BUSY = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
NO_ANSWER = "The database does not answer."
READ_ONLY = "The database is read-only: it is a standby server, or default_transaction_read_only is on."


@contextmanager
def bounded(
    seconds: float | None = None, *, lock: str = "", ordered: bool = False, using: str | None = None
) -> Iterator[None]:
    """A transaction that waits for each lock for at most `LOCK_TIMEOUT_SECONDS`, or for `seconds` if that is less.

    With the name of a `lock`, it takes that first, as `lock_until_commit` does. It is in the queue's database, or in
    the one with the alias `using`. If its statements read along indexes alone, `ordered` has PostgreSQL do so whatever
    its statistics say: a queue changes faster than they do, and with old ones all waiting rows may be sorted. Plans of
    such statements last.

    Inside the caller's own transaction it is a savepoint, and the caller's `lock_timeout` applies. Raises `RowBusy` if
    a lock cannot be had in time, or for a deadlock; then nothing was changed.
    """
    connection = database.connection(using)
    try:
        if connection.in_atomic_block:
            with database.atomic(using):
                if lock:
                    lock_until_commit(lock, using=using)
                yield
        else:
            with _time_to_wait(seconds) as bound, database.atomic(using):
                with connection.cursor() as cursor:
                    # For this transaction alone: a connection pool may give the connection to another client next.
                    timeout = f"{max(1, round(bound * 1000))}ms"
                    if lock:
                        cursor.execute(_LOCK_FOR_INDEX_PLANS if ordered else _LOCK, [_key(lock), timeout])
                    else:
                        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [timeout])
                with plans.lasting() if ordered and lock else nullcontext():
                    yield
    except OperationalError as error:
        if is_busy(error):
            raise RowBusy from error
        raise


def is_busy(error: BaseException) -> bool:
    """Whether the database refused because another transaction holds a lock: the call may be repeated soon."""
    return isinstance(error.__cause__, _BUSY)


def is_away(error: BaseException) -> bool:
    """Whether the database does not answer, hangs up or takes no writes: the call may be repeated soon."""
    if is_busy(error):
        return False
    if isinstance(error, OperationalError | InterfaceError):
        return True
    cause = error.__cause__
    # An error that has no code of the server is psycopg's own. It raises one if the server's farewell arrives together
    # with the answer to BEGIN or COMMIT.
    own = isinstance(cause, psycopg.InternalError) and cause.sqlstate is None
    # PostgreSQL counts this among errors in the program: it has hung up.
    return own or is_read_only(error) or isinstance(cause, errors.IdleInTransactionSessionTimeout)


def is_read_only(error: BaseException) -> bool:
    """Whether the database takes no writes, for instance as a standby since a failover."""
    return isinstance(error.__cause__, errors.ReadOnlySqlTransaction)


def why_away(error: BaseException) -> str:
    """Why the database cannot be used, in a sentence for people; `error` is one for which `is_away` is true."""
    return READ_ONLY if is_read_only(error) else NO_ANSWER


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


def lock_until_commit(name: str, *, using: str | None = None, seconds: float | None = None) -> None:
    """Take the lock of this name, waiting for it if need be, and hold it until the transaction ends.

    It is a lock of the queue's database, or of the one with the alias `using`. It waits as long as the transaction
    waits for each lock, or for `seconds`: for a lock that others hold for milliseconds, but that many want.
    """
    with database.connection(using).cursor() as cursor:
        if seconds is None:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_key(name)])
            return
        cursor.execute("SELECT set_config('reportqueue.waits', current_setting('lock_timeout'), true)")
        cursor.execute(_LOCK, [_key(name), f"{round(seconds * 1000)}ms"])
        cursor.execute("SELECT set_config('lock_timeout', current_setting('reportqueue.waits'), true)")


def try_until_commit(name: str) -> bool:
    """Take the lock of this name without waiting, and hold it until the transaction ends; whether it was free."""
    with database.connection().cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_key(name)])
        return bool(cursor.fetchone()[0])


def _key(lock: str) -> int:
    return int.from_bytes(hashlib.blake2b(lock.encode(), digest_size=8).digest(), signed=True)


def without_request_transaction(view: View) -> View:
    """Have no transaction around the view, also if the project has ATOMIC_REQUESTS for any of its databases.

    A view that waits must not hold one, and a view must be able to answer when a database is away.
    """
    for alias in connections:
        view = non_atomic_requests(using=alias)(view)
    return view
