"""One thread a consumer: it gives its daemon one life after the other, each with a fault of its own, or none."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from typing import Any

import psutil

from tools.chaos import points
from tools.chaos.deck import Deck
from tools.chaos.link import ask
from tools.chaos.points import LEASE_SECONDS
from tools.chaos.system import System

AFTER_SERVER_SECONDS = 5.0
"""For a daemon whose server was killed to report its runs, and to launch others."""
FAULTS = (
    *points.CRASH_FLAGS.values(),
    *(points.CLAIM_ANSWERED, points.LAUNCHING, points.TICK_FAILED_TWICE, points.LAUNCH_FAILED),
)
WARM_FAULTS = (*FAULTS, points.SERVER_KILLED)
_FLAGS = {point: flag for flag, point in points.CRASH_FLAGS.items()}


class Daemon(threading.Thread):
    """Goes on until `finish()`; while `calm` is set, its lives have no faults."""

    def __init__(self, system: System, consumer: str, deck: Deck[str], seed: int) -> None:
        super().__init__(name=f"daemon-{consumer}", daemon=True)
        self.consumer = consumer
        self.calm = threading.Event()
        self._system = system
        self._chance = random.Random(seed)
        self._finished = threading.Event()
        self._deck = deck

    def finish(self) -> None:
        """Kill it, for good."""
        self._finished.set()
        self.join(20)

    def run(self) -> None:
        """Lives."""
        while not self._finished.is_set():
            if self.calm.is_set():
                self._live({}, point=None)
            elif self.consumer == "gamma":  # it comes, takes rows, dies, and stays away for longer than they are its
                self._live({}, point=points.CONSUMER_GONE)
                self._finished.wait(LEASE_SECONDS + 3)
            else:
                point = self._deck.draw()
                if not self._live_with_fault(point):
                    self._deck.put_back(point)
                if self._chance.random() < 0.15:  # back when its rows are another's already
                    self._finished.wait(LEASE_SECONDS + 1)

    def _live_with_fault(self, point: str) -> bool:
        if point in _FLAGS:
            return self._live({"crash": _FLAGS[point]}, point)
        if point == points.TICK_FAILED_TWICE:
            crash = self._chance.choice(("RUN_IDS_RESERVED", "RUN_CREATED"))
            self._live({"crash": crash, "how": "raise"}, point)
            return True
        if point == points.LAUNCH_FAILED:
            self._live({"launches": [point] * self._chance.randint(1, 3)}, point)
            return True
        return self._live({"launches": [point]} if point == points.LAUNCHING else {}, point)

    def _live(self, request: dict[str, Any], point: str | None) -> bool:
        """One life; whether it ended by its own fault."""
        try:
            answers = ask({"op": "daemon", "consumer": self.consumer, **request})
            pid = json.loads(answers.readline())["pid"]
        except (OSError, ValueError):
            self._finished.wait(0.5)
            return False
        if point in (points.CLAIM_ANSWERED, points.CONSUMER_GONE):
            self._system.rules.kill_at_claim(self.consumer, pid, point)
        ended = threading.Event()
        reader = threading.Thread(target=lambda: (answers.readline(), ended.set()), daemon=True)
        reader.start()
        waited, struck = 0.0, False
        while not ended.wait(0.1) and not self._finished.is_set():
            waited += 0.1
            if point == points.SERVER_KILLED and not struck and (struck := self._kill_server(pid)):
                waited = self._system.engine.life_seconds - AFTER_SERVER_SECONDS
            if waited > self._system.engine.life_seconds and not (point is None and self.calm.is_set()):
                break
        if alive := not ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            ended.wait(10)
        elif point in _FLAGS:  # it has killed itself there
            self._system.ledger.fault(point, self._system.rules.claimed[self.consumer], pid=pid)
        self._system.rules.forget(self.consumer)
        answers.close()
        return struck or not alive

    def _kill_server(self, pid: int) -> bool:
        """Kill the warm server of a daemon, if one of its runs has started its row; whether that was so."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for server in psutil.Process(pid).children():
                runs = [run.pid for run in server.children()]
                if rows := self._system.rules.rows_of(runs):
                    self._system.ledger.fault(points.SERVER_KILLED, rows, pids=runs)
                    server.kill()
                    return True
        return False
