"""The claimers' side of `claim`: reads commands, prints results. Standard library only, as the peers use it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

Once = Callable[[int], int]
"""Claims a batch; returns the number of rows."""


def serve(ways: dict[str, Once]) -> None:
    """For each line of the input, claim for so long or until no row is left; prints the rows, calls and seconds."""
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        once, batch = ways[asked["way"]], asked["batch"]
        rows = calls = 0
        took = 0.0
        began = time.perf_counter()
        while took < asked["seconds"] and (got := once(batch)):
            rows += got
            calls += 1
            took = time.perf_counter() - began
        print(json.dumps({"rows": rows, "calls": calls, "seconds": took}), flush=True)
