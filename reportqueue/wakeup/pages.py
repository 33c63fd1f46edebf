"""Live pages: a stream that notifies a page of changes, and the marker by which a page finds out that nothing changed.

The notifications are those that waiting claims get: a row is queued, a schedule has changed, an instant has come. No
claim, start or end of a report is notified, so that these stay cheap. Pages find those by the marker.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from collections.abc import Iterator
from functools import cache

from reportqueue import database
from reportqueue.conf import conf
from reportqueue.models import BulkAction, MutedFailure, Pause, Report, ReportAttempt, ReportQueue, ReportSchedule
from reportqueue.states import FINAL
from reportqueue.wakeup.claims import Waiter, listener

STREAM_SECONDS = 300.0
"""After so long a stream ends, and the browser opens another: each then checks the login again."""
HEARTBEAT_SECONDS = 15.0
"""After so long without an event, a comment is sent: proxies keep the connection, and a closed page is noticed."""
EVENT_SECONDS = 1.0
"""The shortest time between two events of a stream."""
RETRY_SECONDS = 3
"""How long the browser waits before it opens another stream."""
SHOWN = (ReportQueue, ReportAttempt, ReportSchedule, Pause, Report, BulkAction, MutedFailure)
"""What live pages show. Consumers are not here: they are noted every 30 s, also while nothing happens."""


class NoRoom(Exception):
    """`MAX_STREAMS` pages have a stream of this process already, or the process is about to end."""


class Stream:
    """Server-sent events for one page, as bytes. It holds one of `MAX_STREAMS` places until it is closed."""

    def __init__(self) -> None:
        """Take a place. Raises `NoRoom`."""
        if not listener.admit(Waiter.STREAM, conf().max_streams):
            raise NoRoom
        # Also for a stream that nobody has closed or begun to read.
        self.close = weakref.finalize(self, listener.leave, Waiter.STREAM)

    def __iter__(self) -> Iterator[bytes]:
        """Wait for notifications: a waiting stream costs a thread, but no connection, transaction or lock."""
        database.close()
        until = time.monotonic() + STREAM_SECONDS
        heard = listener.heard()
        yield f"retry: {RETRY_SECONDS * 1000}\n\n".encode()
        while (left := until - time.monotonic()) > 0 and not listener.stopped:
            listener.wait_for_notice(heard, min(left, HEARTBEAT_SECONDS))
            if listener.stopped:
                return
            if (now := listener.heard()) == heard:
                yield b":\n\n"
                continue
            heard = now
            yield b"event: changed\ndata: changed\n\n"
            listener.rest(EVENT_SECONDS)


def marker() -> str:
    """A text that is another one after a change of what live pages show; one cheap statement.

    New rows, starts and ends are in it at once. Other changes, such as a claim, are in it once PostgreSQL has counted
    them: some seconds later, at most ten.
    """
    with database.connection().cursor() as cursor:
        cursor.execute(_statement())
        found = cursor.fetchone()
    return hashlib.blake2b(repr(found).encode(), digest_size=9).hexdigest()


@cache
def _statement() -> str:
    """The ends of three indexes, and how many writes PostgreSQL has counted: no table is read."""
    quote = database.connection().ops.quote_name
    rows, attempts = (quote(model._meta.db_table) for model in (ReportQueue, ReportAttempt))
    final = ", ".join(f"'{status}'" for status in sorted(FINAL))
    written = " + ".join(f"pg_stat_get_tuples_{what}(t)" for what in ("inserted", "updated", "deleted"))
    tables = ", ".join(f"'{quote(model._meta.db_table)}'::regclass" for model in SHOWN)
    return (  # of names in our own models alone
        f"SELECT (SELECT max(id) FROM {rows}), (SELECT max(finished_at) FROM {rows} WHERE status IN ({final})), "  # noqa: S608
        f"(SELECT max(id) FROM {attempts}), (SELECT sum({written}) FROM unnest(ARRAY[{tables}]::oid[]) AS t)"
    )
