"""Effort: how many instants a thread has examined. It bounds a pass, whatever the schedules and however late it is."""

from __future__ import annotations

import threading


class _Effort(threading.local):
    spent = 0


_effort = _Effort()


def spend() -> None:
    """Count one examined instant, or one reading that was looked up in a calendar."""
    _effort.spent += 1


def spent() -> int:
    """The thread's count so far. Memoised results cost nothing."""
    return _effort.spent
