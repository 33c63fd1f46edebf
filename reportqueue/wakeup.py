"""How a waiting claim learns of new rows: it looks again after a short while, and holds nothing meanwhile."""

from __future__ import annotations

import time

from django.db import connection

from reportqueue.conf import conf


def wait(until: float) -> bool:
    """Sleep until it is worth looking again; False when `until` (of `time.monotonic()`) has come.

    The database connection is given back first: a waiter costs a thread, no connection, transaction or lock.
    """
    left = until - time.monotonic()
    if left <= 0:
        return False
    connection.close()
    time.sleep(min(left, conf().wait_poll_seconds))
    return True
