"""Goals beside their figures."""

from __future__ import annotations

Goals = dict[str, tuple[float, bool]]
"""By the goal's words: its figure, and whether that holds."""


def judge(goals: Goals) -> int:
    """Print each; the exit code, 0 only if all hold."""
    print()
    for goal, (figure, holds) in goals.items():
        print(f"{'holds ' if holds else 'MISSED'}  {figure:>10,.2f}  {goal}")
    return 0 if all(holds for _, holds in goals.values()) else 1
