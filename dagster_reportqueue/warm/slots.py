"""A bound on run processes without bookkeeping: each holds a file's lock, which the kernel lets go with the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Slots:
    """The bound is that of the folder: all servers of one Dagster instance, whoever started them, share it."""

    def __init__(self, folder: Path, count: int) -> None:
        """Raises `OSError` if the folder cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"slot-{number}" for number in range(count)]

    def take(self) -> int | None:
        """A file descriptor that holds a free slot as long as it, or a forked process's copy, is open; or None."""
        for path in self._paths:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
            else:
                return held
        return None
