"""How much a thread has worked out of schedules: what bounds a pass, whatever the schedules are and however late."""

from __future__ import annotations

import threading


class _Effort(threading.local):
    spent = 0


_effort = _Effort()


def spend() -> None:
    """Count one instant of a schedule, or one reading of a clock that was looked up in a calendar."""
    _effort.spent += 1


def spent() -> int:
    """Everything that this thread has counted so far; what is memoised costs nothing."""
    return _effort.spent
