"""What an error is, without what differs from row to row: rows whose errors have one fingerprint failed alike.

No error text is trusted: reports write into it what they like. A bounded part of it is read, and each pattern takes
time in proportion to the length of its line: patterns are possessive (`++`), and begin only where a word does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

READ = 16 * 1024
"""Characters at the end of an error that are read: as many as the queue keeps of it."""
MAX_LINE = 1_000
"""Characters of a line that are read."""
MAX_TITLE = 200
MAX_FRAME = 200
FINGERPRINT = re.compile(r"[0-9a-f]{16}", re.ASCII)

_HEADERS = ("Traceback (most recent call last):", "Stack Trace:")
"""The lines above the frames: of Python, and of errors that Dagster has stored."""
_ADVICE = "(MAX_UNSTARTED_RUNS)"
"""Is in the line that the queue adds to an error of runs that never start. The reason is in the line above."""
_GROUP = re.compile(r"\A\s*+(?:\|[ ]?|\+[-+]++(?:[ ]\d++[ ]-++)?)")
"""What stands left of the lines of an exception group."""
_TYPE = re.compile(r"(?:\w++\.)*+[A-Z][A-Za-z_]*+(?:\d{1,3}[A-Za-z_]++)*+")
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/(?:python|pypy)\d|/python[\d.]*+/lib/", re.IGNORECASE)
_DIFFERS = re.compile(
    r"""
      (?P<url>(?<![\w.+-])[A-Za-z][A-Za-z0-9+.-]*+://[^\s'"<>]++)
    | (?P<value>(?<!\w)[bru]{0,2}'[^']*+(?:'(?!\w)|$) | (?<!\w)[bru]{0,2}"[^"]*+(?:"(?!\w)|$) | `[^`]*+`)
    | (?P<address>(?<![\w.+-])[\w.+-]++@[\w.-]++
        | (?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])(?::\d++)?
        | (?<![\w:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{1,4}(?![\w:]))
    | (?P<path>(?<![\w/.])(?:~?/[\w.~-]|[A-Za-z]:[\\/])[^\s'":;,()\[\]]*+)
    | (?P<time>(?<!\d)\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d++)?)?)?(?:Z|[ ]?[+-]\d\d:?\d\d)?(?!\d)
        | (?<![\d:])\d{1,2}:\d\d:\d\d(?:[.,]\d++)?(?![\d:]))
    | (?P<id>0[xX][0-9A-Fa-f]++
        | (?<![0-9A-Za-z])(?:
            [0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])
          | (?=[A-Fa-f]*+\d)(?=\d*+[A-Fa-f])[0-9A-Fa-f]{8,}+(?![0-9A-Za-z])
          | (?=[A-Za-z]*+\d)(?=\d*+[A-Za-z])[0-9A-Za-z]{16,}+
          | [A-Za-z]*+\d++[A-Za-z]++\d[0-9A-Za-z]*+))
    | (?P<n>(?:(?<!\w)[-+])?\d++(?:[.,]\d++)*+(?:[eE][-+]?\d++)?)
    """,
    re.VERBOSE,
)
"""Each of its names is that of a placeholder. An id has letters and digits; a number alone is `<n>`."""
_PLACEHOLDER = re.compile("<(?:url|value|address|path|time|id|n)>")
_REPEATED = re.compile(rf"({_PLACEHOLDER.pattern})(?:[,;]?[ ]?\1)++")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]++")


@dataclass(frozen=True)
class Failure:
    """An error without what differs from row to row."""

    title: str
    """The type and the message of the exception, or the last line of another text; at most `MAX_TITLE` characters."""
    frame: str
    """The last function of the project's own code, such as `weather.py, in make`; empty if there is none."""
    fingerprint: str
    """16 hexadecimal digits of both, the same in each process."""


def read(error: str) -> Failure:
    """What the end of an error text says."""
    lines = [_GROUP.sub("", line[:MAX_LINE], count=1) for line in error[-READ:].splitlines()]
    lines = [line for line in lines if line.strip() and _ADVICE not in line]
    header = max((at for at, line in enumerate(lines) if line.strip().endswith(_HEADERS)), default=-1)
    frames = [(at, line.strip()) for at, line in enumerate(lines) if at > header and line.lstrip().startswith('File "')]
    said = _exception(lines, header, frames[-1][0]) if frames else _last(lines)
    own = [frame for _, line in frames if (frame := _own_frame(line))]
    text, frame = _without_what_differs(said), own[-1] if own else ""
    # An id without a letter looks like a number: both are the same here.
    known = f"{_cut(text.replace('<id>', '<n>'), MAX_TITLE)}\n{frame}"
    digest = hashlib.blake2b(known.encode(errors="replace"), digest_size=8).hexdigest()
    return Failure(_cut(text, MAX_TITLE), frame, digest)


def title(error: str) -> str:
    """The type and message of an error in one line, with placeholders for numbers, ids, values, paths and times."""
    return read(error).title


def fingerprint(error: str) -> str:
    """16 hexadecimal digits that are the same for errors that differ only in what `title` replaces."""
    return read(error).fingerprint


def is_fingerprint(text: str) -> bool:
    """Whether the text can be a fingerprint."""
    return FINGERPRINT.fullmatch(text) is not None


def _exception(lines: list[str], header: int, last_frame: int) -> str:
    """The first line of the exception below its frames. Dagster writes it above them."""
    below = (line for line in lines[last_frame + 1 :] if not line[0].isspace())
    above = lines[header - 1] if header > 0 else ""
    return next(below, above or lines[-1])


def _last(lines: list[str]) -> str:
    """The last line that is no frame of another language, and has a word: the end of an object alone says nothing."""
    others = [line for line in reversed(lines) if not line.lstrip().startswith(("at ", "... "))]
    return next(filter(_has_word, others), next(iter(others), lines[-1] if lines else ""))


def _has_word(line: str) -> bool:
    return any(character.isalpha() for character in _PLACEHOLDER.sub("", _without_what_differs(line)))


def _own_frame(line: str) -> str:
    """The file's base name and the function; empty for a frame of the standard library or of an installed package."""
    path, _, rest = line.removeprefix('File "').partition('"')
    path = path.replace("\\", "/")
    if path.startswith("<") or _LIBRARY.search(path):
        return ""
    name, function = path.rpartition("/")[2], rest.partition(", in ")[2]
    return _cut(_SPACE.sub(" ", f"{name}, in {function}" if function else name), MAX_FRAME)


def _without_what_differs(line: str) -> str:
    line = _SPACE.sub(" ", line).strip()
    kind, colon, message = line.partition(": ")
    if colon and _TYPE.fullmatch(kind):
        return f"{kind}: {_replaced(message)}"
    return line if _TYPE.fullmatch(line) else _replaced(line)


def _replaced(text: str) -> str:
    return _REPEATED.sub(r"\1", _DIFFERS.sub(lambda found: f"<{found.lastgroup}>", text))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
