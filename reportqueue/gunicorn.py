"""gunicorn's settings for the web app: `gunicorn -c python:reportqueue.gunicorn mysite.wsgi`.

The command line and GUNICORN_CMD_ARGS go before them. What another server needs is `stop_waiting`.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

worker_class = "gthread"
threads = 16
"""A claim that waits occupies a thread, and so does the stream of a live page: more than `MAX_WAITERS`, 8, and
`MAX_STREAMS`, 4, together."""
graceful_timeout = 30
"""Seconds for the requests that a worker has when it is told to stop."""


def stop_waiting() -> None:
    """Answer waiting claims at once, with what there is, and end the streams of live pages.

    Call it when the process is told to stop, in any thread.
    """
    # A worker may import this module before Django is set up.
    from reportqueue.wakeup.claims import listener

    listener.stop()


def post_worker_init(worker: Any) -> None:
    """Called by gunicorn in each worker: SIGTERM ends the waits too, so that the worker does not wait for them."""
    stop = signal.getsignal(signal.SIGTERM)

    def handler(number: int, frame: FrameType | None) -> None:
        # In a thread: the code that the signal interrupted may hold the lock.
        threading.Thread(target=stop_waiting).start()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, handler)
