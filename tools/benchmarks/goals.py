"""Compares figures with their goals."""

from __future__ import annotations

Goals = dict[str, tuple[float, bool]]
"""By the text of the goal: the figure, and whether the goal holds."""


def judge(goals: Goals, *, absolute: Goals | None = None) -> int:
    """Print each goal; returns the exit code, 0 only if all hold.

    The `absolute` ones, such as seconds or reports a second, are printed only: a machine that is half as fast misses
    them without a fault of the code.
    """
    print()
    for goal, (figure, holds) in (absolute or {}).items():
        print(f"{'reached' if holds else 'missed '} {figure:>10,.2f}  {goal} (printed only)")
    for goal, (figure, holds) in goals.items():
        print(f"{'holds ' if holds else 'MISSED'}  {figure:>10,.2f}  {goal}")
    return 0 if all(holds for _, holds in goals.values()) else 1
