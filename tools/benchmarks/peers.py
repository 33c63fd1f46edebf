"""What a job costs until it is recorded: the product in batches, beside other queues with their own workers.

Needs a server in DATABASE_URL on which it may make databases; `run.py bench peers` provides it. Exits 0 only if a
report costs no more CPU than a task of django-tasks-db.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import psycopg

from project.environment import BASE_DIR
from tools.benchmarks import cost, cost_of, figures, peer_environment, usage
from tools.benchmarks.cost_of import Figures
from tools.benchmarks.goals import judge
from tools.benchmarks.installation import FOLDER
from tools.benchmarks.peer_queues import PEERS
from tools.runner import broker, leftovers
from tools.runner.arguments import whole_number
from tools.runner.postgres import create_database, with_database
from tools.runner.processes import Children
from tools.runner.venv import clean_environment

PRODUCT, JUDGED = "reportqueue", "django-tasks-db"
PACKAGES = ["pgqueuer", "procrastinate", "django-tasks-db", "celery", "django-celery-results"]
JOBS, WARM_UPS = cost_of.BATCHED, 200
ROUNDS = 5
RECORDED_SECONDS = 600.0
POLL_SECONDS = 0.1
COSTS, OF_POSTGRES, RATE = "ms a report", f"ms of {usage.POSTGRES}", "reports a second"


def main() -> int:
    """Measure all in turns, print the medians; returns 0 if the goal holds."""
    chosen = _arguments()
    try:
        python = peer_environment.python()
    except peer_environment.PeersMissing as error:
        print(f"error: {error}", flush=True)
        return 1
    names = [PRODUCT, *PEERS]
    if shutil.which(broker.PROGRAM) is None:
        print(f"celery is left out: install {broker.PROGRAM} (Debian's package has that name)", flush=True)
        names.remove("celery")
    print(peer_environment.versions(python, PACKAGES), flush=True)
    print(f"load before: {figures.load()}", flush=True)
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for number in range(chosen.rounds):
        for name in names if number % 2 else reversed(names):
            database = f"peers_{number}_{names.index(name)}"
            measured = (
                cost.measure("batches", BASE_DIR, database) if name == PRODUCT else _of_peer(name, python, database)
            )
            found[name].append(measured)
            print(f"{name}: {measured[COSTS]:.2f} ms a job, {measured[RATE]:,.0f} a second", flush=True)
    print(f"load after: {figures.load()}\n")
    print(f"{'':<22} {'CPU ms a job':>13} {'of it PostgreSQL':>17} {'a second':>9} {'ratio':>7}")
    ratios = {name: _ratio(found[PRODUCT], found[name]) for name in names}
    for name in names:
        costs, of_postgres, rate = (
            statistics.median(one[figure] for one in found[name]) for figure in (COSTS, OF_POSTGRES, RATE)
        )
        print(f"{name:<22} {costs:>13.2f} {of_postgres:>17.2f} {rate:>9,.0f} {ratios[name]:>7.2f}", flush=True)
    ratio = ratios[JUDGED]
    return judge({f"CPU a report in batches, of a task of {JUDGED}: at most 1": (ratio, ratio <= 1)})


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="run.py bench peers", description="What a job costs, beside other queues.")
    parser.add_argument(
        "--rounds", type=whole_number(1, 1_000), default=ROUNDS, help=f"measurements of each (default {ROUNDS})"
    )
    return parser.parse_args()


def _ratio(own: list[Figures], others: list[Figures]) -> float:
    return statistics.median(one[COSTS] / other[COSTS] for one, other in zip(own, others, strict=True))


def _of_peer(name: str, python: Path, database: str) -> Figures:
    """One measurement: the worker has made some jobs before, and only then are the measured ones added."""
    url = with_database(os.environ["DATABASE_URL"], database)
    create_database(url)
    data, cluster = Path(os.environ[FOLDER]) / database, Path(os.environ[FOLDER]) / "postgres"
    data.mkdir()
    children = Children(data)
    environment = {**clean_environment(), "PYTHONPATH": str(BASE_DIR), leftovers.MARK: str(data)}
    if name == "celery":
        started = broker.start(data, children, environment, durable=False)
        environment = {**environment, "PEER_BROKER": started["CELERY_BROKER_URL"]}
    command = [str(python), "-m", "tools.benchmarks.peer_worker", name, url]

    def fill(verb: str, count: int) -> float:
        # Without the mark: whoever enqueues is not measured, as little as for the product.
        unmarked = {key: value for key, value in environment.items() if key != leftovers.MARK}
        done = subprocess.run(
            [*command, verb, str(count)], cwd=BASE_DIR, env=unmarked, check=True, stdout=subprocess.PIPE, text=True
        )
        return float(done.stdout.split()[0])

    def wait_for(count: int) -> None:
        until = time.monotonic() + RECORDED_SECONDS
        with psycopg.connect(url, autocommit=True) as connection:
            while connection.execute(PEERS[name].RECORDED).fetchone() != (count,):
                children.check()
                if time.monotonic() > until:
                    raise TimeoutError(f"{name}: the jobs were not recorded in {RECORDED_SECONDS:g} s; see {data}")
                time.sleep(POLL_SECONDS)

    try:
        fill("load", WARM_UPS)
        children.start("worker", [*command, "work"], environment)
        wait_for(WARM_UPS)
        time.sleep(cost_of.SETTLE_SECONDS)
        before = usage.cpu_seconds(data, cluster)
        began = fill("add", JOBS)
        wait_for(WARM_UPS + JOBS)
        seconds = time.monotonic() - began
        time.sleep(cost_of.SETTLE_SECONDS)
        used = usage.cpu_seconds(data, cluster) - before
    finally:
        children.stop_all(5.0, 1.0)
    return {
        COSTS: sum(used.values()) / JOBS * 1e3,
        OF_POSTGRES: used[usage.POSTGRES] / JOBS * 1e3,
        RATE: JOBS / seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
