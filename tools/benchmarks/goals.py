"""Compares figures with their goals."""

from __future__ import annotations

Goals = dict[str, tuple[float, bool]]
"""By the text of the goal: the figure, and whether the goal holds."""


def judge(goals: Goals) -> int:
    """Print each goal; returns the exit code, 0 only if all hold."""
    print()
    for goal, (figure, holds) in goals.items():
        print(f"{'holds ' if holds else 'MISSED'}  {figure:>10,.2f}  {goal}")
    return 0 if all(holds for _, holds in goals.values()) else 1
