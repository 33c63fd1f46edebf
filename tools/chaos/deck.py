"""Chance that is fair: every card once, in random order, before any comes again."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Deck(Generic[T]):
    """Cards to draw from, by many threads; a short run so meets every point, too."""

    def __init__(self, cards: Sequence[T], chance: random.Random) -> None:
        self._cards, self._chance = cards, chance
        self._left: list[T] = []
        self._lock = threading.Lock()

    def draw(self) -> T:
        """The next card."""
        with self._lock:
            if not self._left:
                self._left = self._chance.sample(self._cards, len(self._cards))
            return self._left.pop()

    def put_back(self, card: T) -> None:
        """It came to nothing: it is tried again, after the next one."""
        with self._lock:
            self._left.insert(max(0, len(self._left) - 1), card)
