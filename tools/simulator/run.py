"""The whole thing: a PostgreSQL, worker processes that play scenarios, the table of the faults, and what went wrong."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from tools.chaos.ledger import Line, Tail
from tools.runner import stop_signals
from tools.runner.postgres import EmbeddedPostgres, create_database, with_database
from tools.runner.processes import Child, ChildFailed, Children

MOST_WORKERS = 8
SAY_SECONDS = 20.0


@dataclass(frozen=True)
class Wanted:
    """What is to be simulated."""

    seed: int
    faults: int
    scenario: int | None = None
    """Play this one alone and tell its story."""
    put_back: str | None = None
    keep_going: bool = False

    @property
    def workers(self) -> int:
        """How many processes play."""
        return min(os.cpu_count() or 1, MOST_WORKERS) if self.scenario is None else 1


@dataclass
class _Sum:
    """What the scenarios came to so far."""

    scenarios: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    failed: list[Line] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many struck."""
        return sum(self.kinds.values())

    def add(self, line: Line) -> None:
        """Add a scenario."""
        self.scenarios += 1
        self.kinds.update(line["kinds"])
        if line["wrong"]:
            self.failed.append(line)


def simulate(
    faults: int,
    seed: int | None = None,
    *,
    scenario: int | None = None,
    put_back: str | None = None,
    keep_going: bool = False,
) -> int:
    """Play scenarios until so many faults have struck, or something is wrong.

    Exit code 0 if nothing was lost, made twice, stuck or silent; 1 if something was; 2 if it could not be simulated.
    `DATABASE_URL` names a server that may create databases; without it, a temporary PostgreSQL is started.
    """
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    wanted = Wanted(seed, faults, scenario, put_back, keep_going)
    folder = Path(tempfile.mkdtemp(prefix="reportqueue-simulator-"))
    children = Children(folder / "logs")
    postgres = EmbeddedPostgres(folder, children, durable=False)
    code = 2
    try:
        url = os.environ.get("DATABASE_URL") or _own_server(postgres)
        databases = [f"reportqueue_simulator_{os.getpid()}_{number}" for number in range(wanted.workers)]
        for name in databases:
            create_database(with_database(url, name))
        workers: list[Child] = []
        try:
            code = _play(wanted, folder, children, [with_database(url, name) for name in databases], workers)
        finally:
            for worker in workers:
                worker.kill(group=True)
            _drop(url, databases)
    except stop_signals.Stopped:
        code = 130
    except (ChildFailed, psycopg.Error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2  # the folder stays: the log is in it
    finally:
        children.stop_all(0, 0, 3.0)
        postgres.close()
    shutil.rmtree(folder, ignore_errors=True)
    return code


def _play(wanted: Wanted, folder: Path, children: Children, databases: Sequence[str], workers: list[Child]) -> int:
    began = time.monotonic()
    alone = wanted.scenario is not None
    tails = []
    for number, database in enumerate(databases):
        results = folder / f"results-{number}.jsonl"
        results.touch()
        tails.append(Tail(results))
        first = wanted.scenario if wanted.scenario is not None else number
        command = [sys.executable, "-m", "tools.simulator.worker", str(results), "--seed", str(wanted.seed)]
        command += ["--first", str(first), "--step", "0" if alone else str(len(databases))]
        command += ["--put-back", wanted.put_back] if wanted.put_back else []
        environment = {
            **os.environ,
            "DATABASE_URL": database,
            "DJANGO_SETTINGS_MODULE": "tools.simulator.settings",
            "SECRET_KEY": os.environ.get("SECRET_KEY", "of a web app that nobody can reach"),
            "PYTHONHASHSEED": "0",  # the order of sets is part of a replay
        }
        workers.append(children.start(f"worker-{number}", command, environment, passing=alone))
    print(f"seed {wanted.seed}: repeat with --seed {wanted.seed}", flush=True)
    done = _Sum()
    said = began
    while done.faults < wanted.faults and not (alone and done.scenarios):
        children.check()
        for line in (line for tail in tails for line in tail.lines()):
            done.add(line)
            if line["wrong"] or alone:
                _tell(wanted, line, done)
        if done.failed and not wanted.keep_going:
            break
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            print(f"{said - began:5.0f} s  {done.faults:,} faults in {done.scenarios:,} scenarios", flush=True)
        time.sleep(0.1)
    _conclude(done, time.monotonic() - began)
    return 1 if done.failed else 0


def _own_server(postgres: EmbeddedPostgres) -> str:
    """Start a server without autovacuum: it comes at some moment, and may change the order of rows that tie."""
    url = postgres.start()
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("ALTER SYSTEM SET autovacuum = off")
        server.execute("SELECT pg_reload_conf()")
    return url


def _drop(url: str, databases: Sequence[str]) -> None:
    with psycopg.connect(with_database(url, "postgres"), autocommit=True) as server:
        for name in databases:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _tell(wanted: Wanted, line: Line, done: _Sum) -> None:
    """One scenario, for people."""
    print(f"\nScenario {line['scenario']} of seed {wanted.seed} (digest {line['digest']}):", flush=True)
    if line["wrong"]:
        back = f" --put-back {wanted.put_back}" if wanted.put_back else ""
        print(f"after {done.faults:,} faults in {done.scenarios:,} scenarios; made smaller, it goes like this.")
        print(f"Repeat it with: python3 run.py simulate --seed {wanted.seed} --scenario {line['scenario']}{back}")
    print(line["story"], flush=True)


def _conclude(done: _Sum, seconds: float) -> None:
    print(f"\n{'fault':<45} {'times':>7}")
    for kind, count in sorted(done.kinds.items()):
        print(f"{kind:<45} {count:>7,}")
    pace = done.faults / seconds if seconds else 0.0
    print(f"\n{done.faults:,} faults in {done.scenarios:,} scenarios, {pace:.0f} a second")
    if done.failed:
        numbers = ", ".join(str(line["scenario"]) for line in done.failed)
        print(f"Something is wrong in {len(done.failed)} scenarios: {numbers}")
    else:
        print("Nothing was lost, made twice, stuck or silent.")
