"""`python -m tools.simulator`: what `run.py simulate` runs."""

from __future__ import annotations

import argparse
import sys

from tools.runner import stop_signals
from tools.simulator import mutations, run


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="run.py simulate")
    parser.add_argument("--faults", type=int, default=100_000)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--scenario", type=int)
    parser.add_argument("--put-back", choices=mutations.NAMES)
    parser.add_argument("--keep-going", action="store_true")
    arguments = parser.parse_args()
    stop_signals.listen()
    return run.simulate(
        arguments.faults,
        arguments.seed,
        scenario=arguments.scenario,
        put_back=arguments.put_back,
        keep_going=arguments.keep_going,
    )


if __name__ == "__main__":
    sys.exit(main())
