"""A thread that asks the web app, over and over, whether it is alive."""

from __future__ import annotations

import threading
import time

from tools.chaos.judge import STUCK
from tools.chaos.system import System

ANSWER_SECONDS = 5.0
PAUSE_SECONDS = 0.5


class Prober(threading.Thread):
    """A context. An answer that does not come in time is a problem of the `point` that is being tried, told once."""

    def __init__(self, system: System) -> None:
        super().__init__(name="prober", daemon=True)
        self.point = ""
        self._system = system
        self._told: set[str] = set()
        self._finished = threading.Event()

    def __enter__(self) -> Prober:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self.join(2 * ANSWER_SECONDS)

    def run(self) -> None:
        """Ask, until it is over."""
        while not self._finished.wait(PAUSE_SECONDS):
            point, began = self.point, time.monotonic()
            try:
                said = f"answered {self._system.answer('GET', '/healthz', seconds=ANSWER_SECONDS)[0]}"
            except OSError as error:
                said = f"did not answer: {error}"
            if said != "answered 200" and point not in self._told and not self._finished.is_set():
                self._told.add(point)
                text = f"/healthz {said} after {time.monotonic() - began:.1f} s"
                self._system.ledger.write("problem", point=point, verdict=STUCK, text=text)
