"""Process state that a report may change; it is restored before the next report of the batch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)


@contextmanager
def kept() -> Iterator[None]:
    """Restore what the work in this context changes: environment, working directory, umask, signal handlers, alarm.

    Signal handlers and the alarm are restored in the main thread only. Other process state is not restored: the locale,
    default timeouts of sockets, imported modules, threads that still run.
    """
    environment = dict(os.environ)
    folder = None
    with suppress(OSError):  # it may be gone
        folder = os.getcwd()
    mask = os.umask(0o077)
    os.umask(mask)
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if in_main else {}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    (left, interval), began = signal.getitimer(signal.ITIMER_REAL), time.monotonic()
    try:
        yield
    finally:
        if in_main:
            again = max(0.001, left - (time.monotonic() - began)) if left else 0.0
            signal.setitimer(signal.ITIMER_REAL, again, interval)
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.umask(mask)
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
