"""The command line of `run.py`. Uses the standard library only, because it runs before anything is installed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from tools.runner.cells import CELLS

PATTERNS = ("queue", "polling", "asset", "cron")
ENGINES = ("warm", "celery")
"""What makes the demo's runs."""
CHAOS_ENGINES = ("harness", "warm", "celery", "kubernetes")
WAVES = ("crashes", "network", "outages", "bad-reports", "engine")
"""`CHAOS_ENGINES` and `WAVES` are the choices of the chaos."""
BENCHMARKS = [
    "schedules",
    "claim",
    "latency",
    "drain",
    "patterns",
    "cost",
    "peers",
    "backlog",
    "history",
    "fairness",
    "live",
    "events",
]
"""The modules of `tools.benchmarks/`."""
WITH_OPTIONS = {"patterns", "drain", "cost", "peers", "backlog", "history", "fairness", "live", "events"}
"""Benchmarks that have options of their own."""
MAX_SEED = 2**63 - 1
MAX_NUMBER = 1_000_000_000
"""Of faults, and of a scenario."""


def parse() -> argparse.Namespace:
    """Parse the arguments; wrong ones exit with code 2 and a usage line."""
    parser = argparse.ArgumentParser(prog="run.py", description="Reports due in Django, run by Dagster.")
    names = "demo | test | lint | matrix | simulate | chaos | screenshots | docs | release | bench"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)
    demo = commands.add_parser("demo", help="run everything on this machine: web app, scheduler, Dagster, PostgreSQL")
    demo.add_argument("--once", action="store_true", help="make the demo's reports, print each result, and stop")
    demo.add_argument(
        "--pattern",
        type=_patterns,
        default=os.environ.get("REPORT_TRIGGER_PATTERN") or "queue",
        help="the pattern that fires: queue, polling, asset or cron (default $REPORT_TRIGGER_PATTERN, or queue). The "
        "sensors of several, separated by commas, run side by side: the current one keeps the firings, else the first "
        "gets them",
    )
    demo.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="what makes the runs: the warm launcher (default), or two Celery workers, which need redis-server",
    )
    port, seed = whole_number(1, 65_535), whole_number(0, MAX_SEED)
    demo.add_argument("--port", type=port, default=8000, metavar="PORT", help="the web app's port (default 8000)")
    demo.add_argument(
        "--dagster-port", type=port, default=3000, metavar="PORT", help="the port of Dagster's UI (default 3000)"
    )
    demo.add_argument(
        "--no-history", action="store_true", help="do not make up a day of past reports for an empty queue"
    )
    demo.add_argument(
        "--timeout",
        type=whole_number(1, 86_400),
        default=900,
        metavar="SECONDS",
        help="with --once: give up after so long (1 to 86400, default 900)",
    )
    test = commands.add_parser(
        "test",
        help="run the tests, with --long those that take minutes, with --oldest those of the database on the oldest "
        "PostgreSQL that is supported; passes other arguments to pytest",
        add_help=False,
    )
    test.set_defaults(pytest=[])
    commands.add_parser("lint", help="ruff, mypy, import-linter, missing migrations")
    matrix = commands.add_parser(
        "matrix",
        help="run the tests on the lowest and the highest supported versions that this machine has; prints a table",
    )
    matrix.add_argument(
        "--cell",
        action="append",
        choices=[cell.name for cell in CELLS],
        help="run this cell (may be repeated; default: all)",
    )
    matrix.add_argument("--list", action="store_true", help="say what each cell is and whether it can run here")
    matrix.add_argument("--quick", action="store_true", help="run fewer tests: something of each dependency")
    matrix.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="tests to run instead, and options of pytest")
    simulate = commands.add_parser(
        "simulate", help="play random scenarios of the whole protocol in virtual time, with faults, and judge each"
    )
    simulate.add_argument(
        "--seed", type=seed, metavar="N", help="play the same scenarios as an earlier run with this seed"
    )
    simulate.add_argument(
        "--faults",
        type=whole_number(1, MAX_NUMBER),
        default=100_000,
        metavar="N",
        help="stop after so many faults (default 100000)",
    )
    simulate.add_argument(
        "--scenario",
        type=whole_number(0, MAX_NUMBER),
        metavar="N",
        help="with --seed: play this scenario alone and tell what happens",
    )
    simulate.add_argument("--put-back", metavar="NAME", help="play with a mended fault; a wrong NAME lists all names")
    simulate.add_argument("--keep-going", action="store_true", help="do not stop at the first scenario that is wrong")
    chaos = commands.add_parser("chaos", help="kill, freeze and disconnect real processes, and count lost reports")
    chaos.add_argument(
        "--minutes",
        type=whole_number(1, 1_440),
        default=20,
        metavar="N",
        help="approximate duration (1 to 1440, default 20)",
    )
    chaos.add_argument(
        "--seed", type=seed, metavar="N", help="repeats the choices of an earlier run; the timing differs"
    )
    chaos.add_argument(
        "--engine",
        choices=CHAOS_ENGINES,
        default=CHAOS_ENGINES[0],
        help="what makes the runs: the harness itself, at once (default); the warm launcher, whose server is killed, "
        "too, and each daemon has to load the code, so give it some minutes; two Celery workers as two hosts, which "
        "need redis-server; or a stand-in for a Kubernetes cluster with two nodes",
    )
    chaos.add_argument("--only", choices=WAVES, help="repeat one kind of wave (default: all kinds)")
    chaos.add_argument(
        "--caps",
        action="store_true",
        help="have reports with caps of 1 and 3 among the others, and look whether more are ever under way",
    )
    commands.add_parser(
        "screenshots", help="take a picture of each page of the admin; --help has its options", add_help=False
    )
    commands.add_parser(
        "docs", help="build the documentation's site and check its links; --help has its options", add_help=False
    )
    release = commands.add_parser(
        "release", help="check the commit as a release, and leave its files in dist/; publishes nothing"
    )
    release.add_argument("--check", action="store_true", help="only check, also while the changelog says (unreleased)")
    bench = commands.add_parser("bench", help="run a benchmark and compare the result with its goals")
    bench.add_argument("name", choices=BENCHMARKS, help="the benchmark; it gets further arguments")
    bench.set_defaults(options=[])
    arguments, rest = parser.parse_known_args()
    if arguments.command == "test":
        arguments.pytest = rest
    elif (arguments.command == "bench" and arguments.name in WITH_OPTIONS) or arguments.command in (
        "screenshots",
        "docs",
    ):
        arguments.options = rest
    elif rest:
        commands.choices[arguments.command].error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.command == "simulate" and arguments.scenario is not None and arguments.seed is None:
        simulate.error("--scenario needs the --seed of its run")
    if arguments.command == "demo" and arguments.port == arguments.dagster_port:
        demo.error("--port and --dagster-port must differ")
    return arguments


def _patterns(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PATTERNS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PATTERNS)}")
    return names


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`. For anything else, argparse names the option and the range."""

    def parse(text: str) -> int:
        # `isdigit` is true for digits such as ², too, and a text of some thousand digits is no number for `int`.
        if not (text.isascii() and text.isdigit() and len(text) < 20) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text[:100]!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse
