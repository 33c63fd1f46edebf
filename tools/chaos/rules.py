"""What befalls the messages that pass the proxy: workers and daemons die around them, and the network loses them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tools.chaos import points
from tools.chaos.deck import Deck
from tools.chaos.ledger import Ledger
from tools.chaos.points import LEASE_SECONDS
from tools.chaos.proxy import Answer, Call, Lost, Proxy

FREEZE_SECONDS = 25.0
"""A frozen process is woken up when another run has started its row, so that both are there; or after this time."""
_TURNED_AWAY = Answer(503, [("Content-Type", "application/json")], b"{}")
_BAD_GATEWAY = Answer(502, [("Content-Type", "text/html")], b"<h1>502 Bad Gateway</h1>")


@dataclass(frozen=True)
class Owner:
    """The run that a lease token was given to, and its process."""

    row: int
    run: str
    pid: int


class ChaosRules:
    """The plan of each row, the daemons that are to die at their next claim, and the share of messages to disturb."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        self.proxy: Proxy | None = None
        self._ledger = ledger
        self._chance = chance
        self._lock = threading.Lock()
        self._owners: dict[str, Owner] = {}
        self._daemons: dict[str, tuple[int, str]] = {}
        self._started: dict[int, str] = {}
        self.starts: dict[int, deque[str]] = defaultdict(deque)
        """What is still to happen at the starts of a row; `completes` likewise."""
        self.completes: dict[int, deque[str]] = defaultdict(deque)
        self.claimed: dict[str, list[int]] = defaultdict(list)
        """The rows that each consumer was last handed."""
        self._network = Deck(points.NETWORK, chance)
        self.disturbed = 0.0
        """The share of messages that the network does something to."""
        self.turned_away: Collection[str] = ()
        """The consumers whose claims do not get through: what is due is for the others."""

    def kill_at_claim(self, consumer: str, pid: int, point: str) -> None:
        """The daemon dies when the answer to its next claim that has rows passes by."""
        with self._lock:
            self._daemons[consumer] = (pid, point)

    def forget(self, consumer: str) -> None:
        """It died otherwise."""
        with self._lock:
            self._daemons.pop(consumer, None)

    def rows_of(self, pids: Collection[int]) -> set[int]:
        """The rows that these processes have started."""
        with self._lock:
            return {owner.row for owner in self._owners.values() if owner.pid in pids}

    def replaced(self, row: int, run: str, since: float) -> bool:
        """Whether another run than this has started the row, or will not any more."""
        now = time.monotonic()
        return now > since + FREEZE_SECONDS or (now > since + LEASE_SECONDS and self._started.get(row) != run)

    def before(self, call: Call) -> Answer | None:
        """Consumers that are turned away; workers that die or freeze on their way; the network."""
        if call.verb == "claim" and _consumer(call) in self.turned_away:
            return _TURNED_AWAY
        if call.verb == "start" and call.row is not None and "run_id" in call.fields:
            fault = self._next(self.starts[call.row], points.BEFORE_START)
            if fault:
                self._kill(fault, self._starter(call))
                raise Lost
        if call.verb == "complete":
            self._before_complete(call)
        return self._network_before(call)

    def after(self, call: Call, answer: Answer) -> None:
        """Answers that their callers do not live to see; the network."""
        if answer.status == 200:
            self._after_success(call, answer)
        if call.answer_is_lost:
            raise Lost

    def _after_success(self, call: Call, answer: Answer) -> None:
        if call.verb == "claim":
            self._after_claim(call, answer)
        if call.verb == "start" and call.row is not None:
            owner = self._starter(call)
            with self._lock:
                self._owners[answer.fields["lease_token"]] = owner
                self._started[owner.row] = owner.run
            if fault := self._next(self.starts[call.row], points.AFTER_START):
                self._kill(fault, owner)
        if call.verb == "complete" and (owner := self._owner(call)) is not None:
            self._ledger.write("accepted", row=owner.row, run=owner.run)
            # Half of them learn of their success before they die.
            if self._chance.random() < 0.5 and (fault := self._next(self.completes[owner.row], points.AFTER_COMPLETE)):
                self._kill(fault, owner)

    def delivered(self, call: Call, answer: Answer) -> None:
        """The other half."""
        owner = self._owner(call) if call.verb == "complete" and answer.status == 200 else None
        if owner is not None and (fault := self._next(self.completes[owner.row], points.AFTER_COMPLETE)):
            self._kill(fault, owner)
        if call.verb == "claim" and answer.status == 200:
            self._kill_daemon(call, answer)

    def _before_complete(self, call: Call) -> None:
        owner = self._owner(call)
        if owner is None:
            return
        plan = self.completes[owner.row]
        if fault := self._next(plan, points.BEFORE_COMPLETE):
            self._kill(fault, owner)
            raise Lost
        if fault := self._next(plan, points.ZOMBIE_COMPLETE):
            self._ledger.fault(fault, [owner.row])
            self._ledger.write("stop", row=owner.row, run=owner.run, pid=owner.pid)
            frozen_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGSTOP)
                while not self.replaced(owner.row, owner.run, frozen_at):
                    time.sleep(0.05)
                time.sleep(self._chance.uniform(0, 0.4))
                self._ledger.write("cont", row=owner.row, run=owner.run, pid=owner.pid)
                os.kill(owner.pid, signal.SIGCONT)

    def _after_claim(self, call: Call, answer: Answer) -> None:
        rows = [item["queue_id"] for item in answer.fields["queue"]]
        if not rows:
            return
        self.claimed[call.fields["consumer"]] = rows
        if self._chance.random() < 0.5:  # the others die just after its delivery
            self._kill_daemon(call, answer)

    def _kill_daemon(self, call: Call, answer: Answer) -> None:
        consumer = call.fields["consumer"]
        rows = [item["queue_id"] for item in answer.fields["queue"]]
        with self._lock:
            pid, point = self._daemons.pop(consumer, (0, "")) if rows else (0, "")
        if pid:
            self._ledger.fault(point, rows, pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _network_before(self, call: Call) -> Answer | None:
        if self.disturbed == 0.0 or self.proxy is None:
            return None
        if self._chance.random() >= self.disturbed:
            return None
        point = self._network.draw()
        owner = self._owner(call)
        rows = [owner.row] if owner else [call.row] if call.row is not None else self.claimed[_consumer(call)]
        self._ledger.fault(point, rows, outage=True, verb=call.verb)
        if point == points.REQUEST_DROPPED:
            raise Lost
        if point == points.BAD_GATEWAY:
            return _BAD_GATEWAY
        if point == points.ANSWER_DROPPED:
            call.answer_is_lost = True
        if point == points.DUPLICATED:
            self.proxy.forward_later(call, self._chance.choice((0, 0, 0.3, 3, 8)))
        if point == points.DELAYED:
            time.sleep(self._chance.choice((1.5, 3, 11)))
        return None

    def _next(self, plan: deque[str], fault: str) -> str | None:
        with self._lock:
            return plan.popleft() if plan and plan[0] == fault else None

    def _owner(self, call: Call) -> Owner | None:
        # A heartbeat names its rows in a list.
        told: dict[str, Any] = next(iter(call.fields.get("rows", [])), call.fields)
        with self._lock:
            return self._owners.get(str(told.get("lease_token")))

    def _starter(self, call: Call) -> Owner:
        return Owner(call.row or 0, call.fields["run_id"], int(call.fields["worker"].rsplit(":", 1)[1]))

    def _kill(self, point: str, owner: Owner) -> None:
        self._ledger.fault(point, [owner.row], pids=[owner.pid])
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGKILL)


def _consumer(call: Call) -> str:
    return str(call.fields.get("consumer", ""))
