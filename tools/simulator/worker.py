"""A worker process: plays scenarios in a database of its own, one JSON line for each on its standard output."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import django


def work(seed: int, numbers: Iterator[int], put_back: str | None, *, tells: bool) -> None:
    """Play scenarios until the numbers end; a failing one is shrunk, and its story is part of the line.

    After each scenario it waits for a line on its standard input.
    """
    warnings.filterwarnings("ignore", module="dagster")
    django.setup()  # the modules below import models
    from tools.simulator.scenario import Plan
    from tools.simulator.shrinker import shrink
    from tools.simulator.stage import stage
    from tools.simulator.story import story

    with stage(put_back) as play:
        for number in numbers:
            outcome = play(Plan(f"{seed}/{number}"))
            line: dict[str, Any] = {
                "scenario": number,
                "kinds": outcome.kinds,
                "seconds": outcome.seconds,
                "digest": outcome.digest,
                "wrong": [str(wrong) for wrong in outcome.wrong],
            }
            if outcome.wrong:
                line["story"] = story(shrink(outcome, play))
            elif tells:
                line["story"] = story(outcome)
            print(json.dumps(line), flush=True)
            if sys.stdin.readline() == "":
                return
