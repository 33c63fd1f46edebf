"""A scenario as a plan, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass

from tools.simulator.judge import Wrong


@dataclass(frozen=True)
class Plan:
    """A scenario: its seed, and what is left out of it."""

    seed: str
    without: frozenset[str] = frozenset()
    """Names of faults and of participants."""


@dataclass
class Outcome:
    """What a scenario came to."""

    plan: Plan
    wrong: list[Wrong]
    faults: list[str]
    """The names of the faults that struck."""
    kinds: dict[str, int]
    participants: list[str]
    told: list[tuple[float, str, str]]
    """Everything that happened: the time in seconds, who, and what."""
    digest: str
    """Of the history: two runs of one plan have the same."""
