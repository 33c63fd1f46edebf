"""A process beside the server: when the server was killed, it kills the process groups of the server's runs."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from dagster_reportqueue.warm import processes
from dagster_reportqueue.warm.ledger import Ledger


class Guard:
    """The kernel kills a dead server's runs, but not what they have started: the guard kills their process groups."""

    def __init__(self, ledger: Ledger, leave: Callable[[], None]) -> None:
        """Fork it. `leave` closes what of the server's it must not hold. Raises `OSError`."""
        watched, self._held = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self.leave()
                _watch(watched, ledger, leave)
        except OSError:
            self.leave()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
            os.close(watched)

    def leave(self) -> None:
        """Close the server's hold on it, which ends it once all processes have closed theirs."""
        os.close(self._held)


def _watch(watched: int, ledger: Ledger, leave: Callable[[], None]) -> NoReturn:
    try:
        # It keeps the signals blocked that end the server with its group or service: it ends after the server.
        os.setsid()
        leave()
        with suppress(InterruptedError):
            while os.read(watched, 1):
                pass
        for pid in ledger.pids():
            processes.kill_with_group(pid)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
