"""Limits run processes: the server holds a file lock for each run. The kernel releases the lock if the server dies."""

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
    """The run that has a slot, as stored in the slot's file."""

    run_id: str
    pid: int
    since: float
    """When the run started (`time.time()`)."""


@dataclass(frozen=True)
class Slot:
    """A slot that this process has taken. A process that inherits the descriptor does not hold the slot."""

    number: int
    descriptor: int

    def note(self, run_id: str, pid: int) -> None:
        """Store which run has the slot, for people and for other servers."""
        written = json.dumps({"run_id": run_id, "pid": pid, "since": time.time()}).encode()
        with suppress(OSError):  # a full disk must not stop a run
            os.ftruncate(self.descriptor, os.pwrite(self.descriptor, written, 0))

    def free(self) -> None:
        """Release the slot, also if copies of the descriptor are open in other processes."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        os.close(self.descriptor)


class Slots:
    """The slots of a folder. All servers of one Dagster instance share them."""

    def __init__(self, folder: Path, count: int) -> None:
        """Raises `OSError` if the folder cannot be created."""
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"slot-{number}" for number in range(count)]

    def __len__(self) -> int:
        return len(self._paths)

    def take(self) -> Slot | None:
        """Take a free slot; None if there is none."""
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
        """The last holder of each slot; these are the current holders if no slot is free."""
        found = []
        for path in self._paths:
            try:
                found.append(Holder(**json.loads(path.read_text())))
            except (OSError, ValueError, TypeError):
                continue  # the slot was just taken
        return found
