"""`python -m tools.chaos`: what `run.py chaos` runs."""

from __future__ import annotations

import argparse
import sys

from tools.chaos import points, run
from tools.runner import stop_signals


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="run.py chaos")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--engine", choices=points.ENGINES, default=points.HARNESS)
    parser.add_argument("--only", choices=(*points.WAVES, points.ENGINE))
    parser.add_argument("--caps", action="store_true")
    arguments = parser.parse_args()
    if not points.reached(arguments.engine, arguments.only):
        parser.error(f"--only {arguments.only}: no fault of that kind befalls the engine {arguments.engine}")
    stop_signals.listen()
    return run.chaos(arguments.minutes, arguments.seed, arguments.engine, arguments.only, capped=arguments.caps)


if __name__ == "__main__":
    sys.exit(main())
