"""Rows that wait for each other in their works: all of them get there only if each has a process at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.05


def called(name: str, count: int, until: float) -> dict[str, Any]:
    """What goes into the params of each of the `count` rows; they wait until then, a time of `time.monotonic()`."""
    return {"name": name, "count": count, "until": until}


def attend(meeting: Mapping[str, Any], row: int) -> bool:
    """Be there, and wait for the others; whether all of them were there at the same time."""
    place = Path(os.environ["CHAOS_LEDGER"]).parent / "meetings" / meeting["name"]
    place.mkdir(parents=True, exist_ok=True)
    mine = place / str(row)
    mine.touch()
    while len(os.listdir(place)) < meeting["count"]:
        if time.monotonic() > meeting["until"]:
            return False
        time.sleep(LOOK_SECONDS)
    return True
