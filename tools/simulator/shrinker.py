"""Makes a failing scenario small: leaves out participants and faults while the same thing is still wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tools.simulator.outcome import Outcome, Plan

MOST_PLAYS = 100
"""The scenario is played at most this often."""


def shrink(found: Outcome, play: Callable[[Plan], Outcome], *, most: int = MOST_PLAYS) -> Outcome:
    """The smallest outcome that was found in which something of the same kind is wrong."""
    return _Shrinker(found, play, most).shrunk()


class _Shrinker:
    def __init__(self, found: Outcome, play: Callable[[Plan], Outcome], most: int) -> None:
        self._best = found
        self._kind = found.wrong[0].kind
        self._play = play
        self._left = most

    def shrunk(self) -> Outcome:
        """Leave out ever smaller parts, until no single one can be left out."""
        while True:
            before = self._size()
            for what in ("participants", "faults"):
                self._leave_out(what)
            if self._size() == before or self._left <= 0:
                return self._best

    def _size(self) -> int:
        return len(self._best.participants) + len(self._best.faults)

    def _leave_out(self, what: str) -> None:
        size = max(1, len(self._names(what)) // 2)
        while size >= 1:
            place = 0
            while place < len(self._names(what)) and self._left > 0:
                # The later ones first: what comes early changes everything after it.
                names = self._names(what)[::-1]
                if not self._still_wrong(names[place : place + size]):
                    place += size
            size //= 2

    def _names(self, what: str) -> Sequence[str]:
        found: Sequence[str] = getattr(self._best, what)
        return found

    def _still_wrong(self, names: Sequence[str]) -> bool:
        self._left -= 1
        plan = self._best.plan
        outcome = self._play(replace(plan, without=plan.without | set(names)))
        if not any(wrong.kind == self._kind for wrong in outcome.wrong):
            return False
        self._best = outcome
        return True
