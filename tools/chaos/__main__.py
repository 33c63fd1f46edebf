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
    parser.add_argument("--launcher", choices=points.LAUNCHERS, default=points.HARNESS)
    parser.add_argument("--only", choices=points.WAVES)
    arguments = parser.parse_args()
    stop_signals.listen()
    return run.chaos(arguments.minutes, arguments.seed, arguments.launcher, arguments.only)


if __name__ == "__main__":
    sys.exit(main())
