"""A process beside the server: if the server is killed, it kills the process groups of the server's runs."""

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
    """Kills the runs' process groups: the kernel kills a dead server's runs, but not the processes they started."""

    def __init__(self, ledger: Ledger, close_inherited: Callable[[], None]) -> None:
        """Fork it. `close_inherited` closes the server's files in it. Raises `OSError`."""
        watched, self._held = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self.close()
                _watch(watched, ledger, close_inherited)
        except OSError:
            self.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
            os.close(watched)

    def close(self) -> None:
        """Close this process's end of the pipe. The guard acts once every process has closed its end."""
        os.close(self._held)


def _watch(watched: int, ledger: Ledger, close_inherited: Callable[[], None]) -> NoReturn:
    try:
        # The signals that end the server with its group or service stay blocked here: the guard ends after the server.
        os.setsid()
        close_inherited()
        with suppress(InterruptedError):
            while os.read(watched, 1):
                pass
        for pid in ledger.pids():
            processes.kill_with_group(pid)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
