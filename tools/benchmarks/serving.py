"""The claimers' side of `claim`: lines in, what was claimed out. Standard library only: the peers use it too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

Once = Callable[[int], int]
"""Claims a batch; how many rows it got."""


def serve(ways: dict[str, Once]) -> None:
    """Claim as each line of the input says, or until nothing is left; answer what was got: rows, calls, seconds."""
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
