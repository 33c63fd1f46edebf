"""The deaths of run processes that nobody of the harness reaps, as the product's own launcher has forked them."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

from tools.chaos.ledger import Ledger, Tail

LOOK_SECONDS = 0.05
"""Much shorter than a lease: what takes the place of a dead work begins later than its death is noticed."""


class Deaths(threading.Thread):
    """A context: watches every process that has begun a work, and writes its death to the ledger."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="deaths", daemon=True)
        self._ledger, self._tail = Ledger(path), Tail(path)
        self._watched: dict[tuple[int, str], psutil.Process | None] = {}
        self._killed: set[int] = set()
        self._finished = threading.Event()

    def __enter__(self) -> Deaths:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self.join(10)

    def run(self) -> None:
        """Look, until it is over."""
        while not self._finished.wait(LOOK_SECONDS):
            # Before the ledger is read: a fault is in there before it kills.
            dead = [key for key, process in self._watched.items() if not _lives(process)]
            for line in self._tail.lines():
                if line["kind"] == "begin":
                    key = line["pid"], line["run"]
                    if key not in self._watched:
                        self._watched[key] = _process(line["pid"])
                elif line["kind"] == "fault":
                    self._killed.update(line.get("pids", ()))
            for key in dead:
                del self._watched[key]
                pid, run = key
                self._ledger.write("death", op="run", pid=pid, run=run, signal=9 if pid in self._killed else 0)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:  # so short was its life
        return None


def _lives(process: psutil.Process | None) -> bool:
    """Whether it is there, and not only what its parent has not reaped yet."""
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
