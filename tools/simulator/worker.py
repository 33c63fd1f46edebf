"""A worker process: plays scenarios in a database of its own, and appends one JSON line for each to a file."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import django

from tools.simulator.outcome import Plan


def main() -> None:
    """Play scenarios until the process is ended, or the only one that is wanted."""
    parser = argparse.ArgumentParser(prog="tools.simulator.worker")
    parser.add_argument("results", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, required=True, help="the number of the first scenario")
    parser.add_argument("--step", type=int, required=True, help="from one scenario to the next; 0: the first alone")
    parser.add_argument("--put-back")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="dagster")
    django.setup()  # the modules below import models
    from tools.simulator.shrinker import shrink
    from tools.simulator.stage import stage
    from tools.simulator.story import story

    numbers = itertools.count(arguments.first, arguments.step) if arguments.step else [arguments.first]
    with arguments.results.open("a", buffering=1) as results, stage(arguments.put_back) as play:
        for number in numbers:
            outcome = play(Plan(f"{arguments.seed}/{number}"))
            line: dict[str, Any] = {
                "scenario": number,
                "kinds": outcome.kinds,
                "digest": outcome.digest,
                "wrong": [str(wrong) for wrong in outcome.wrong],
                "story": "",
            }
            if outcome.wrong:
                line["story"] = story(shrink(outcome, play))
            elif not arguments.step:
                line["story"] = story(outcome)
            results.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
