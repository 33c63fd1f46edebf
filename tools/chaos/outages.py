"""What everybody suffers from: the web app, PostgreSQL and the scheduler are killed and restarted."""

from __future__ import annotations

import random
import signal
import time

from tools.chaos import points
from tools.chaos.deck import Deck
from tools.chaos.schedules import SchedulerRounds
from tools.chaos.system import System

PAUSES = (0.0, 0.5, 2.0)
"""For how long something stays away."""


class Outages:
    """One after the other, each kind equally often."""

    def __init__(self, system: System, chance: random.Random) -> None:
        self._system = system
        self._chance = chance
        self._scheduler = SchedulerRounds(system, chance)
        self._rows: list[int] = []
        self._kinds = Deck(
            (
                self._kill_web,
                lambda: self._restart_postgres(points.POSTGRES_FAST, signal.SIGINT),
                lambda: self._restart_postgres(points.POSTGRES_IMMEDIATE, signal.SIGQUIT),
                lambda: self._scheduler.kill_in_a_pass(blocked=True),
                lambda: self._scheduler.kill_in_a_pass(blocked=False),
            ),
            chance,
        )

    def strike(self, rows: list[int]) -> None:
        """The next one, while these rows are under way; over when everything answers again."""
        self._rows = rows
        self._kinds.draw()()

    def finish(self) -> list[int]:
        """The rows that the killed schedulers should have made; see `SchedulerRounds.finish`."""
        return self._scheduler.finish()

    def _kill_web(self) -> None:
        self._system.ledger.fault(points.WEB_KILLED, self._rows, outage=True)
        if self._chance.random() < 0.4:
            self._system.kill_web_worker()
            return
        self._system.web.kill()
        time.sleep(self._chance.choice(PAUSES))
        self._system.start_web()

    def _restart_postgres(self, point: str, how: signal.Signals) -> None:
        self._system.ledger.fault(point, self._rows, outage=True)
        self._system.postgres.stop(how)
        time.sleep(self._chance.choice(PAUSES))
        self._system.postgres.start()
