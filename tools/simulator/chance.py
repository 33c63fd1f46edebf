"""Seeded choices. Each choice has a name, so that leaving one thing out does not change the choices for another."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")


class Chance:
    """The choices of one seed. A choice depends on the seed and on its name, not on the choices before it."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def number(self, *name: object) -> float:
        """A number from 0 (included) to 1 (excluded)."""
        return int.from_bytes(self._digest(name)[:7]) / 2**56

    def happens(self, share: float, *name: object) -> bool:
        """True for this share of the names."""
        return self.number(*name) < share

    def between(self, low: float, high: float, *name: object) -> float:
        """A number between two bounds."""
        return low + (high - low) * self.number(*name)

    def whole(self, low: int, high: int, *name: object) -> int:
        """A whole number between two bounds, both included."""
        return low + int((high - low + 1) * self.number(*name))

    def pick(self, options: Sequence[T], *name: object) -> T:
        """One of the options."""
        return options[int(len(options) * self.number(*name))]

    def some(self, options: Sequence[T], share: float, *name: object) -> list[T]:
        """About this share of the options."""
        return [option for place, option in enumerate(options) if self.happens(share, *name, place)]

    def uuid(self, *name: object) -> UUID:
        """A UUID of version 4."""
        return UUID(bytes=self._digest(name), version=4)

    def stream(self, *name: object) -> random.Random:
        """A stream of choices, for code that takes `random`'s functions."""
        return random.Random(self.number(*name))

    def _digest(self, name: tuple[object, ...]) -> bytes:
        return hashlib.blake2b(f"{self._seed}|{name!r}".encode(), digest_size=16).digest()
