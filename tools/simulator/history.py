"""The history of a scenario: what really happened, seen from outside of the product. The judge reads nothing else.

One dict a line, as in `tools.chaos.ledger`: `t` (seconds since the beginning) and `kind`. The works of the reports
write `begin` and `end`. The simulated machine writes `stop`, `cont` and `death` of processes, and `fault` for each
injected fault. The web server's door writes what it accepted:

    requested      a report was enqueued: key, row
    started        a run owns a row: row, run
    accepted       a completion: row, run
    launch failed  a run was reported that never started its row: row, run
    given back     an end that is no success: row, run, verb
    cancel, cycle  a person cancelled a row, or asked for it once more: row
    schedule       a schedule was created, changed, or deleted: id, and the fields that the answer shows
    calendar       the calendar of a schedule, named by its modifier, closes these minutes of the day
    run now        a person ran a schedule: row
    broken         an answer with status 500, or an error that nobody expected: text
    pass           a pass over the schedules has ended: `since` when it began
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tools.chaos.ledger import Line
from tools.simulator.world import World


class History:
    """The lines of one scenario, and the words of its story."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.lines: list[Line] = []
        self.told: list[tuple[float, str, str]] = []
        """Of everything that happened, for people: the time, who, and what."""

    def write(self, kind: str, **facts: Any) -> None:
        """One line. What a dead process does is not written: it did not happen."""
        self.lines.append({"t": self._world.now, "kind": kind, **facts})

    def tell(self, who: str, text: str) -> None:
        """One sentence of the story."""
        self.told.append((self._world.now, who, text))

    def digest(self) -> str:
        """A digest of everything: two runs of one scenario have the same."""
        text = json.dumps([self.lines, self.told], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
