"""Regular expressions whose time grows with the text alone: RE2, which does not backtrack.

The engine of Python's `re` may need longer than the universe is old for a short text. RE2 knows no lookahead, no
lookbehind and no backreferences: such expressions are refused.
"""

from __future__ import annotations

import re
from functools import lru_cache

import re2

MAX_REPEAT = 1_000
"""The largest number in `{...}`. RE2 would take a larger one for the text of these characters."""
MAX_MEMORY = 1024 * 1024
"""Bytes that one expression may use, compiled and while it is matched."""
VALUE_MEMORY = 128 * 1024
"""The same of an expression that is a value and not in a schema: whoever gives it may give many."""
SQUARE_OF_A_STEP = 2_500
"""Of its instructions, squared, so many cost about as much as a step: so does the time grow that compiling it takes."""
REFUSED_STEPS = 2_000
"""What it costs at most to find out that a text is no expression, or too large a one."""
WORK_OF_A_STEP = 1_000
"""Bytes of text, times instructions of the expression, that cost about as much as another step of an evaluation."""
_UNICODE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)
_REPEAT = re.compile(r"\\.|\{(\d+)(?:,(\d*))?\}", re.DOTALL)
REMEDY = "write it without lookahead, lookbehind and backreferences, and with repeats of at most 1,000"


class BadRegex(ValueError):
    """The text is no regular expression that can be matched in linear time; the message says why."""


class Regex:
    """A compiled expression. `work` is the size of its program, in instructions."""

    def __init__(self, text: str, memory: int = MAX_MEMORY) -> None:
        """Raises `BadRegex`."""
        for low, high in _REPEAT.findall(text):
            if any(len(number) > 9 or int(number or 0) > MAX_REPEAT for number in (low, high)):
                raise BadRegex("invalid repetition size")
        options = re2.Options()
        options.log_errors = False
        options.max_mem = memory
        options.never_capture = True  # thousands of groups would cost seconds
        try:
            self._compiled = re2.compile(_UNICODE.sub(_as_re2, text), options)
        except (re2.error, UnicodeEncodeError) as error:
            raise BadRegex(_reason(error)) from None
        self.work: int = self._compiled.programsize

    def found_in(self, text: str) -> bool:
        """Whether some part of the text matches."""
        return self._compiled.search(text) is not None

    def steps(self, text: str) -> int:
        """What it costs at most to look for it in the text, in steps of an evaluation."""
        size = len(text) if text.isascii() else 4 * len(text)
        return 4 + size * self.work // WORK_OF_A_STEP


def _as_re2(found: re.Match[str]) -> str:
    return rf"\x{{{found[1]}}}" if found[1] else found[0]


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "half a character"
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


@lru_cache(maxsize=64)
def tried(text: str) -> tuple[bool, int]:
    """Whether the text is an expression, and what it costs at most to find out, in steps of an evaluation."""
    try:
        work = Regex(text, VALUE_MEMORY).work
    except BadRegex:
        return False, REFUSED_STEPS
    return True, work * work // SQUARE_OF_A_STEP
