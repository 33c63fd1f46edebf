"""Ctrl-C, SIGTERM and a closed terminal: noted when they arrive, handled where it is safe. Standard library only.

An exception raised by a signal handler could strike after a process was started and before it is in the list of
processes to end. So the handler only notes the signal, and code that waits calls `check()`.
"""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_noted: list[int] = []


class Stopped(Exception):
    """A signal asks the program to end."""


def listen() -> None:
    """Note the signals from now on, except a SIGHUP that is ignored already, as under nohup."""
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def unlisten() -> None:
    """Let the signals end this process again. Raises `Stopped` if one was noted."""
    for number in SIGNALS:
        if signal.getsignal(number) is _note:
            signal.signal(number, signal.SIG_DFL)
    check()


def noted() -> int | None:
    """The first signal that arrived, or None."""
    return _noted[0] if _noted else None


def check() -> None:
    """Raises `Stopped` if a signal has arrived."""
    if _noted:
        raise Stopped


def _note(number: int, frame: FrameType | None) -> None:
    _noted.append(number)
