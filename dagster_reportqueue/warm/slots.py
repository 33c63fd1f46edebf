"""A bound on run processes: the server holds a file's lock for each run, which the kernel frees if the server dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """The run that has a slot, as it is written in the slot's file."""

    run_id: str
    pid: int
    since: float
    """Of `time.time()`."""


@dataclass(frozen=True)
class Slot:
    """One that this process has taken. Another process that inherits the descriptor does not keep the slot."""

    number: int
    descriptor: int

    def note(self, run_id: str, pid: int) -> None:
        """Write down for people, and for other servers, which run has it."""
        written = json.dumps({"run_id": run_id, "pid": pid, "since": time.time()}).encode()
        with suppress(OSError):  # a full disk stops no run
            os.ftruncate(self.descriptor, os.pwrite(self.descriptor, written, 0))

    def free(self) -> None:
        """Let another run have it, whatever copies of the descriptor are open."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)


class Slots:
    """The bound is that of the folder: all servers of one Dagster instance, whoever started them, share it."""

    def __init__(self, folder: Path, count: int) -> None:
        """Raises `OSError` if the folder cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"slot-{number}" for number in range(count)]

    def __len__(self) -> int:
        return len(self._paths)

    def take(self) -> Slot | None:
        """A free slot; or None."""
        for number, path in enumerate(self._paths):
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
            else:
                return Slot(number, held)
        return None

    def holders(self) -> list[Holder]:
        """Who had the slots last; who has them, if none is free."""
        found = []
        for path in self._paths:
            try:
                found.append(Holder(**json.loads(path.read_text())))
            except (OSError, ValueError, TypeError):
                continue  # taken just now
        return found
