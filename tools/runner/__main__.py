"""Continues `run.py` inside the virtual environment."""

from __future__ import annotations

import sys

from tools.runner import arguments, stop_signals


def main() -> int:
    """Run the chosen command and return its exit code."""
    stop_signals.listen()
    chosen = arguments.parse()
    if chosen.command == "demo":
        from tools.runner import demo

        return demo.run(chosen)
    if chosen.command == "bench":
        from tools.runner import bench

        return bench.run(chosen.name, chosen.options)
    if chosen.command == "matrix":
        from tools.runner import matrix

        return matrix.run(chosen)
    if chosen.command == "release":
        from tools.runner import release

        return release.run(chosen)
    from tools.runner import checks

    if chosen.command == "chaos":
        return checks.chaos(chosen.minutes, chosen.seed, chosen.engine, chosen.only, capped=chosen.caps)
    if chosen.command == "screenshots":
        return checks.screenshots(chosen.options)
    if chosen.command == "docs":
        return checks.docs(chosen.options)
    if chosen.command == "simulate":
        return checks.simulate(chosen)
    return checks.lint() if chosen.command == "lint" else checks.test(chosen.pytest)


sys.exit(main())
