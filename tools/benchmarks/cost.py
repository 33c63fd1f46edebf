"""What a report costs, beside another commit: both are measured in turns, and the ratio decides.

Needs a server in DATABASE_URL on which it may make databases; `run.py bench cost` provides it. Exits 0 only if no
figure is worse than the goal allows.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from project.environment import BASE_DIR
from tools.benchmarks import figures, trees
from tools.benchmarks.cost_of import PARTS, Figures
from tools.benchmarks.goals import Goals, judge
from tools.runner.arguments import whole_number
from tools.runner.postgres import create_database, with_database

MEASURED = {
    "batches": "ms a report",
    "singles": "ms a report",
    "web": "ms a row",
    "claims": "ms a claim",
    "claims of one": "ms a claim",
    "idle": "CPU s",
}
"""The figure of each part that is judged; more of it is worse."""
TOLERATED = 1.05
TRIVIAL_GOAL = 1.25


def main() -> int:
    """Measure both in turns and print the medians; returns 0 if no ratio is over the goal."""
    chosen = _arguments()
    print(f"load before: {figures.load()}", flush=True)
    goals: Goals = {}
    try:
        with trees.checked_out(chosen.against) as other:
            name = trees.name_of(chosen.against)
            for part in chosen.part or list(PARTS):
                goals |= _compare(part, name, other, chosen)
    except ValueError as error:
        print(f"error: {error}", flush=True)
        return 1
    print(f"load after: {figures.load()}", flush=True)
    return judge(goals)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench cost", description="What a report costs, beside another commit.")
    parser.add_argument("--against", default="HEAD", help="the other commit (default HEAD: what is not committed yet)")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="measure this part (may be repeated)")
    parser.add_argument("--rounds", type=whole_number(1, 1_000), default=5, help="measurements of each (default 5)")
    parser.add_argument("--goal", type=float, default=TOLERATED, help=f"the largest ratio (default {TOLERATED})")
    return parser.parse_args()


def _compare(part: str, name: str, other: Path, chosen: Namespace) -> Goals:
    found: dict[str, list[Figures]] = {name: [], "now": []}
    for number in range(chosen.rounds):
        turns = [(name, other), ("now", BASE_DIR)]
        for label, folder in turns if number % 2 else reversed(turns):
            database = f"cost_{part.replace(' ', '_')}_{number}_{'now' if folder == BASE_DIR else 'other'}"
            found[label].append(measure(part, folder, database))
            print(f"{part} {label}: {found[label][-1][MEASURED[part]]:.3f} {MEASURED[part]}", flush=True)
    print(f"\n{part:<34} {name:>10} {'now':>10} {'ratio':>7}")
    for figure in found["now"][0]:
        before, now = (statistics.median(one.get(figure, 0.0) for one in found[label]) for label in (name, "now"))
        print(f"{figure:<34} {before:>10.2f} {now:>10.2f} {now / before if before else 0:>7.2f}", flush=True)
    goals: Goals = {}
    if part == "singles":
        beside = statistics.median(one["of a trivial run"] for one in found["now"])
        goals[f"one run a report, of a trivial run of Dagster's own: at most {TRIVIAL_GOAL:g}"] = (
            beside,
            beside <= TRIVIAL_GOAL,
        )
    judged = MEASURED[part]
    ratio = statistics.median(
        now[judged] / before[judged] for before, now in zip(found[name], found["now"], strict=True)
    )
    return {f"{part}, {judged}, of that of {name}: at most {chosen.goal:g}": (ratio, ratio <= chosen.goal), **goals}


def measure(part: str, folder: Path, database: str) -> Figures:
    url = with_database(os.environ["DATABASE_URL"], database)
    create_database(url)
    command = [sys.executable, "-m", "tools.benchmarks.cost_of", part]
    variables = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    measured: Figures = json.loads(done.stdout.splitlines()[-1])
    return measured


if __name__ == "__main__":
    sys.exit(main())
