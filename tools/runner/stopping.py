"""Ctrl-C, SIGTERM and a closed terminal: noted when they come, acted on where it is safe. Standard library only.

An exception out of a signal handler could strike between the start of a process and its entry in the list of what is
to be ended. So the handler only notes, and whoever waits calls `check()`.
"""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_noted: list[int] = []


class Stopped(Exception):
    """Somebody wants this to end."""


def listen() -> None:
    """Note the signals from now on; a closed terminal that is to be ignored, as by nohup, stays so."""
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def unlisten() -> None:
    """Let the signals end this process again. Raises `Stopped` for one that was noted."""
    for number in SIGNALS:
        if signal.getsignal(number) is _note:
            signal.signal(number, signal.SIG_DFL)
    check()


def noted() -> int | None:
    """The first signal that came."""
    return _noted[0] if _noted else None


def check() -> None:
    """Raises `Stopped` if a signal has come."""
    if _noted:
        raise Stopped


def _note(number: int, frame: FrameType | None) -> None:
    _noted.append(number)
